import gzip
import hashlib
import io
from importlib import resources

import numpy as np
import pytest

import gpunet.datasets as mnist_loader
from gpunet.datasets import bundled
from gpunet.errors import FileFormatError, InputError

TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.fixture(scope="module")
def mnist():
    return mnist_loader.mnist()


@pytest.fixture(scope="module")
def wrapped():
    return mnist_loader.load_data_wrapper()


def test_mnist(mnist):
    assert (mnist.X.shape, mnist.X.dtype) == ((60_000, 784), np.uint8)
    assert (mnist.X_test.shape, mnist.X_test.dtype) == ((10_000, 784), np.uint8)
    assert mnist.y.dtype == mnist.y_test.dtype == np.int64
    assert np.bincount(mnist.y).tolist() == TRAIN_COUNTS
    assert np.bincount(mnist.y_test).tolist() == TEST_COUNTS
    assert mnist.y[:5].tolist() == [5, 0, 4, 1, 9]
    assert (mnist.n_classes, mnist.input_scale, mnist.name) == (10, 1 / 256, "mnist")
    assert mnist.X.flags.writeable


@pytest.mark.parametrize("name", sorted(bundled.SHA256))
def test_unpacked_files_are_the_originals(name):
    originals = {
        "t10k-images": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        "train-images": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    }
    with bundled._open(name) as packed:
        unpacked = gzip.decompress(packed.read())
    assert hashlib.sha256(unpacked).hexdigest() == originals[name.partition("-idx")[0]]


@pytest.mark.parametrize("name", sorted(bundled.SHA256))
def test_one_changed_bit_is_noticed_on_each_read(monkeypatch, name):
    original = bundled._open

    def tampered(wanted):
        with original(wanted) as file:
            data = bytearray(file.read())
        if wanted == name:
            data[4] ^= 1  # the time in gzip's header: nothing but the checksum can see it
        return io.BytesIO(data)

    monkeypatch.setattr(bundled, "_open", tampered)
    with pytest.raises(FileFormatError, match=rf"{name} is not the file that was shipped.*Reinstall"):
        mnist_loader.mnist()


def test_a_missing_file_asks_to_reinstall(monkeypatch):
    def missing(name):
        raise FileNotFoundError(2, "No such file", name)

    monkeypatch.setattr(bundled, "_open", missing)
    with pytest.raises(FileFormatError, match="Reinstall") as caught:
        mnist_loader.mnist()
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_the_licence_is_beside_the_files():
    notice = resources.files("gpunet.datasets.data").joinpath("NOTICE").read_text()
    assert "Creative Commons\nAttribution-ShareAlike 3.0" in notice
    for author in ("Yann LeCun", "Corinna Cortes", "Christopher J.C. Burges"):
        assert author in notice


def test_wrapper_has_the_books_form(wrapped, mnist):
    training, validation, test = wrapped
    assert [len(part) for part in wrapped] == [50_000, 10_000, 10_000]
    x, y = training[0]
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((784, 1), np.float32, (10, 1), np.float64)
    assert np.array_equal(y, mnist_loader.vectorized_result(5))
    for part, images, labels, at in (
        (validation, mnist.X, mnist.y, 50_000),
        (test, mnist.X_test, mnist.y_test, 0),
    ):
        for i in (0, 123, 9_999):
            x, label = part[i]
            assert (x.shape, x.dtype, type(label)) == ((784, 1), np.float32, int)
            assert label == labels[at + i]
            assert np.array_equal(x[:, 0] * 256, images[at + i])


def test_every_training_target_is_the_one_hot_of_its_label(wrapped, mnist):
    targets = np.stack([y for _, y in wrapped[0]])[:, :, 0]
    assert np.array_equal(targets.argmax(axis=1), mnist.y[:50_000])
    assert np.array_equal(np.unique(targets), [0, 1])
    assert (targets.sum(axis=1) == 1).all()


def test_load_data_has_the_books_form():
    training, validation, test = mnist_loader.load_data()
    assert [images.shape for images, _ in (training, validation, test)] == [
        (50_000, 784),
        (10_000, 784),
        (10_000, 784),
    ]
    assert all(images.dtype == np.float32 and labels.dtype == np.int64 for images, labels in (training, test))
    assert training[0].max() == 255 / 256


def test_vectorized_result():
    column = mnist_loader.vectorized_result(np.int64(3))
    assert (column.shape, column.dtype, column[:, 0].tolist()) == (
        (10, 1),
        np.float64,
        [0, 0, 0, 1] + [0] * 6,
    )


@pytest.mark.parametrize("j", [-1, 10, 1.0, "1", True, None])
def test_vectorized_result_of_no_digit(j):
    with pytest.raises(InputError, match="whole number from 0 to 9"):
        mnist_loader.vectorized_result(j)


@pytest.mark.parametrize("name", ["mnist.pkl.gz", "mnist.pkl"])
def test_the_books_own_file(write, python2_pickle, book_parts, name):
    path = write(name, python2_pickle(book_parts))
    for got, expected in zip(mnist_loader.load_data(path), book_parts, strict=True):
        assert np.array_equal(got[0], expected[0])
        assert np.array_equal(got[1], expected[1])
    training, validation, test = mnist_loader.load_data_wrapper(path)
    assert [len(training), len(validation), len(test)] == [12, 3, 4]
    assert np.array_equal(training[2][0][:, 0], book_parts[0][0][2])
    assert training[2][1].argmax() == book_parts[0][1][2]
    assert test[3][1] == book_parts[2][1][3]


def test_uint8_images_in_a_pickle_are_scaled_as_the_books(write, book_bytes):
    part = np.full((2, 784), 128, np.uint8), np.array([0, 9])
    training, _, _ = mnist_loader.load_data(write("mnist.pkl", book_bytes(parts=(part, part, part))))
    assert training[0].dtype == np.float32
    assert (training[0] == 0.5).all()


@pytest.mark.parametrize(("width", "label"), [(783, 9), (784, 10)])
def test_other_data_is_not_the_books(write, book_bytes, width, label):
    part = np.zeros((2, width), np.float32), np.array([0, label])
    path = write("other.pkl", book_bytes(parts=(part, part, part)))
    with pytest.raises(InputError, match="expected the book's digits"):
        mnist_loader.load_data_wrapper(path)


def test_a_missing_book_file(tmp_path):
    with pytest.raises(FileFormatError, match="no such file"):
        mnist_loader.load_data_wrapper(tmp_path / "mnist.pkl.gz")
    with pytest.raises(InputError, match="must be a str or a Path, got int"):
        mnist_loader.load_data(3)
