"""The MNIST that ships with the package, verified by its checksums."""

from __future__ import annotations

from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from gpunet.datasets import idx
from gpunet.datasets.arrays import as_inputs, as_labels
from gpunet.datasets.dataset import Dataset, assemble
from gpunet.datasets.stream import gunzip
from gpunet.errors import FileFormatError

SHA256 = {
    "train-images-idx3-ubyte.gz": "0b367032e93c5d0cea0925647cfdb18614af8ee15f83e6f2fc2ad904a6835971",
    "train-labels-idx1-ubyte.gz": "1787548bbe0bff1ec2ecdc0ef292b02df999e2d1a6002d27500982c652b17203",
    "t10k-images-idx3-ubyte.gz": "1a1a05eab793c14bb050b398624a11b0ffd1a2953baed553b1b9bd079e2a20be",
    "t10k-labels-idx1-ubyte.gz": "b91679a0acfe4ba0e50a2437a903084cba1f5f92592b016a25a7dfd00455798b",
}


def mnist() -> Dataset:
    """Return the MNIST handwritten digits, from the files inside this package.

    Returns
    -------
    Dataset
        `X` (60000, 784) uint8 and `y` (60000,) int64, `X_test` (10000, 784) and `y_test` (10000,);
        `input_scale` is 1/256, the book's own scaling of the pixels.

    Raises
    ------
    FileFormatError
        If a file is missing or differs from the one that was shipped.
    """
    return assemble("mnist", *mnist_part("train"), *mnist_part("t10k"))


def mnist_part(part: Literal["train", "t10k"]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the images (N, 784) uint8 and the labels (N,) int64 of one part."""
    X = as_inputs(_array(f"{part}-images-idx3-ubyte.gz"), "mnist")
    return X, as_labels(_array(f"{part}-labels-idx1-ubyte.gz"), len(X), "mnist")


def _open(name: str) -> IO[bytes]:
    from importlib import resources  # not wanted at `import gpunet.datasets`: it is slow

    return resources.files("gpunet.datasets.data").joinpath(name).open("rb")


def _array(name: str) -> NDArray[Any]:
    import hashlib  # as above

    what = f"gpunet's own {name}"
    try:
        with _open(name) as packed:
            digest = hashlib.sha256()
            while part := packed.read(1 << 20):
                digest.update(part)
            size = packed.tell()
            packed.seek(0)
            if (found := digest.hexdigest()) == SHA256[name]:
                return idx.parse(gunzip(packed, size, what), what)
    except (OSError, ImportError) as exc:
        raise FileFormatError(f"{what} can't be read ({exc}). Reinstall gpunet.") from exc
    raise FileFormatError(
        f"{what} is not the file that was shipped: its SHA-256 is {found}, expected {SHA256[name]}. Reinstall gpunet."
    )
