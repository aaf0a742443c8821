import struct
import tracemalloc

import numpy as np
import pytest

from gpunet.datasets import idx, load
from gpunet.errors import FileFormatError, InputError

IMAGES = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
LABELS = np.array([1, 0, 2, 1], np.uint8)


@pytest.fixture
def folder(tmp_path, write, idx_bytes):
    write("train-images-idx3-ubyte", idx_bytes(IMAGES))
    write("train-labels-idx1-ubyte.gz", idx_bytes(LABELS))
    return tmp_path


def test_a_folder_with_a_training_part(folder):
    data = load(folder)
    assert data.X.tolist() == IMAGES.reshape(4, 6).tolist()
    assert data.X.dtype == np.uint8
    assert data.y.tolist() == LABELS.tolist()
    assert data.X_test is None
    assert data.y_test is None
    assert (data.input_scale, data.n_classes, data.name) == (1 / 256, 3, folder.name)


def test_a_folder_with_both_parts_and_dotted_names(folder, write, idx_bytes):
    write("t10k-images.idx3-ubyte.gz", idx_bytes(IMAGES[:2]))
    write("t10k-labels.idx1-ubyte", idx_bytes(LABELS[:2]))
    data = load(str(folder))
    assert data.X_test.tolist() == IMAGES[:2].reshape(2, 6).tolist()
    assert data.y_test.tolist() == [1, 0]


def test_a_folder_without_training_files_lists_what_it_has(tmp_path, write):
    with pytest.raises(FileFormatError, match=r"train-images-idx3-ubyte and train-labels.* found nothing"):
        load(tmp_path)
    write("notes.txt", "hello")
    with pytest.raises(FileFormatError, match=r"found notes\.txt"):
        load(tmp_path)


def test_half_a_test_part_is_missing_something(folder, write, idx_bytes):
    write("t10k-images-idx3-ubyte", idx_bytes(IMAGES))
    with pytest.raises(FileFormatError, match=r"t10k-labels-idx1-ubyte .* missing"):
        load(folder)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
        ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte"),
        ("my-images.idx3", "my-labels.idx1.gz"),
        ("images.bin", "labels.bin"),
        ("images.bin.gz", "labels.bin.gz"),
    ],
)
def test_one_images_file_finds_its_labels(write, idx_bytes, images, labels):
    path = write(images, idx_bytes(IMAGES))
    assert load(path).y is None
    write(labels, idx_bytes(LABELS))
    assert load(path).y.tolist() == LABELS.tolist()


def test_an_images_file_of_another_name_is_not_its_own_labels(write, idx_bytes):
    data = load(write("digits.idx", idx_bytes(IMAGES)))
    assert data.y is None
    assert data.X.shape == (4, 6)


def test_a_labels_file_is_no_data_set(write, idx_bytes):
    with pytest.raises(InputError, match="as a labels file does"):
        load(write("train-labels-idx1-ubyte", idx_bytes(LABELS)))


def test_counts_must_match(write, idx_bytes):
    path = write("train-images-idx3-ubyte", idx_bytes(IMAGES))
    write("train-labels-idx1-ubyte", idx_bytes(LABELS[:3]))
    with pytest.raises(InputError, match=r"train-labels.*: 3 labels for 4 inputs"):
        load(path)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
def test_every_type_code(write, idx_bytes, dtype):
    values = np.array([[0, 1, 2], [3, 100, 5]], dtype)
    parsed = idx.parse(idx_bytes(values), "it")
    assert parsed.dtype == np.dtype(dtype)
    assert parsed.dtype.isnative
    assert parsed.flags.writeable
    assert parsed.tolist() == values.tolist()
    data = load(write("some.idx2", idx_bytes(values)))
    assert data.X.dtype == (np.uint8 if dtype == "u1" else np.float32)
    assert data.input_scale == (1 / 256 if dtype == "u1" else 1)


def header(code, *shape):
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, code, len(shape), *shape)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "starts with nothing"),
        (b"\0\0", "starts with 00 00"),
        (b"\x89PNG....", "starts with 89 50 4e 47"),
        (b"\0\0\x0a\x01\0\0\0\x01x", "type code 0x0a is unknown"),
        (b"\0\0\x08\x03\0\0\0\x01", r"takes 16 bytes, but the file has 8\. It is cut short"),
        (b"\0\0\x08\x00x", r"claims the shape \(\)"),
        (header(8, 0, 28, 28), r"claims the shape \(0 x 28 x 28\)"),
        (header(8, 2, 0), r"claims the shape \(2 x 0\)"),
        (header(8, 2, 2) + b"123", "4 bytes in all, but 3 bytes are there. The data is cut short"),
        (header(8, 2, 2) + b"12345", "5 bytes are there. The data is followed by something else"),
        (header(0x0E, 2, 2) + b"1234", "32 bytes in all"),
        (header(8, *[1] * 255) + b"1", "1 to 32 axes"),
    ],
)
def test_damaged_files(write, data, message):
    with pytest.raises(FileFormatError, match=message) as caught:
        load(write("train-images-idx3-ubyte", data))
    assert "train-images-idx3-ubyte" in str(caught.value)


def test_a_header_that_claims_much_costs_nothing(write):
    path = write("huge-images-idx3-ubyte", header(8, 2**31, 28, 28) + b"x" * 100)
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match=r"claims \(2147483648 x 28 x 28\)"):
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
