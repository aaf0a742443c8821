import ast
import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gpunet.datasets
from gpunet.datasets import Dataset
from gpunet.datasets.arrays import as_inputs, as_labels, check_claim
from gpunet.datasets.dataset import assemble
from gpunet.errors import FileFormatError, InputError

PACKAGE = Path(gpunet.datasets.__file__).parent


def test_a_dataset_can_not_be_changed():
    data = Dataset(np.zeros((2, 3), np.float32))
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.name = "other"


def test_classes_are_counted_over_both_parts_and_names():
    X, y = np.zeros((2, 3)), np.array([0, 1])
    assert Dataset(X).n_classes == 0
    assert Dataset(X, y).n_classes == 2
    assert Dataset(X, y, X, np.array([4, 0])).n_classes == 5
    assert Dataset(X, y, classes=("a", "b", "c")).n_classes == 3
    assert repr(Dataset(X, y, X, y, name="two")) == ("<Dataset 'two': X (2, 3) float64, X_test (2, 3), 2 classes>")
    assert repr(Dataset(X)) == "<Dataset 'data': X (2, 3) float64, no labels>"


@pytest.mark.parametrize(
    ("given", "kept"),
    [("u1", "u1"), ("f2", "f4"), ("f4", "f4"), (">f4", "f4"), ("f8", "f4"), ("?", "f4"), ("i2", "f4")],
)
def test_dtypes_of_inputs(given, kept):
    X = as_inputs(np.array([[0, 1], [1, 0]], given), "it")
    assert X.dtype == np.dtype(kept)
    assert X.tolist() == [[0, 1], [1, 0]]


def test_whole_inputs_become_float32_only_where_that_is_exact():
    assert as_inputs(np.array([[2**24]]), "it").dtype == np.float32
    wide = as_inputs(np.array([[2**24 + 1]]), "it")
    assert wide.dtype == np.float64
    assert wide[0, 0] == 2**24 + 1


def test_float64_stays_on_request_and_is_checked_for_overflow_otherwise():
    big = np.array([[1e300]])
    assert as_inputs(big, "it", keep_float64=True).dtype == np.float64
    with pytest.raises(InputError, match=r"it: the largest magnitude is 1e\+300, beyond float32.*Rescale"):
        as_inputs(big, "it")


def test_images_are_flattened_in_c_order():
    images = np.asfortranarray(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    X = as_inputs(images, "it")
    assert X.tolist() == [list(range(12)), list(range(12, 24))]
    table = as_inputs(np.asfortranarray(X), "it")
    assert table.tolist() == X.tolist()
    assert X.flags.c_contiguous
    assert table.flags.c_contiguous


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([["a"]]), "expected whole or floating-point"),
        (np.zeros((1, 1), complex), "complex128"),
        (np.zeros(3), "one row per example"),
        (np.zeros(()), "one row per example"),
        (np.zeros((0, 3)), "empty"),
        (np.zeros((3, 0)), "empty"),
        (np.array([[0, 1], [2, np.nan]]), "row 1, value 1 .* is nan"),
        (np.array([[0, -np.inf]]), "row 0, value 1 .* is -inf"),
    ],
)
def test_inputs_that_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        as_inputs(values, "it")


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "i8", "u8", "f2", "f4", ">f8", ">i4"])
def test_labels_of_any_dtype_become_int64(dtype):
    y = as_labels(np.array([[1], [0]], dtype), 2, "it")
    assert y.dtype == np.int64
    assert y.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([0, -1]), r"label of row 1 \(from 0\) is -1"),
        (np.array([0.5, 1]), "row 0 .* is 0.5"),
        (np.array([1, np.nan]), "row 1 .* is nan"),
        (np.array([1, np.inf]), "row 1 .* is inf"),
        (np.array([1, 2**63], np.uint64), "row 1"),
        (np.array([0, 1, 2]), "3 labels for 2 inputs"),
        (np.eye(2), "argmax"),
        (np.array(["a", "b"]), r"\.csv"),
    ],
)
def test_labels_that_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        as_labels(values, 2, "it")


def test_both_parts_must_agree():
    pixels, y = np.zeros((2, 3), np.uint8), np.zeros(2, np.int64)
    with pytest.raises(InputError, match="training rows have 3 values and test rows 4"):
        assemble("it", pixels, y, np.zeros((2, 4), np.uint8), y)
    with pytest.raises(InputError, match="training inputs are uint8 and test inputs float32"):
        assemble("it", pixels, y, np.zeros((2, 3), np.float32), y)
    mixed = assemble("it", np.zeros((2, 3), np.float32), y, np.zeros((2, 3)), y)
    assert mixed.X.dtype == mixed.X_test.dtype == np.float64
    assert mixed.input_scale == 1.0
    assert assemble("it", pixels, y).input_scale == 1 / 256


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (-1, -4), (1,) * 33, (4, 2), (1, 2), (10**4000,) * 4])
def test_claims_that_do_not_fit_four_bytes(shape):
    with pytest.raises(FileFormatError, match="it: the header claims"):
        check_claim(shape, 1, 4, "it")


def test_imports_are_numpy_and_the_standard_library():
    for source in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                ours = name.startswith(("gpunet.datasets", "gpunet.errors", "gpunet.checks", "gpunet.optional"))
                root = name.partition(".")[0]
                known = root == "numpy" or root in sys.stdlib_module_names
                known |= root == "pyarrow" and source.name.endswith("parquet.py")  # imported when a file comes
                assert ours or known, f"{source}: {name}"


def test_importing_opens_no_data_file():
    code = (
        "import sys; opened = []\n"
        "sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == 'open' else None)\n"
        "import gpunet.datasets\n"
        "assert any('loading' in name for name in opened)\n"
        "assert not [name for name in opened if 'ubyte' in name]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PACKAGE.parent.parent)
