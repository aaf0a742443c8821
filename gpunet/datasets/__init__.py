"""Data sets: the bundled MNIST, files of the user's own, and the book's `mnist_loader`.

>>> import gpunet.datasets as mnist_loader
>>> training_data, validation_data, test_data = mnist_loader.load_data_wrapper()

Importing this package reads no file; each function reads when it is called.
"""

from gpunet.datasets.book import load_data, load_data_wrapper, vectorized_result
from gpunet.datasets.bundled import mnist
from gpunet.datasets.columns import Table
from gpunet.datasets.dataset import Dataset
from gpunet.datasets.loading import load, read_table
from gpunet.datasets.sources import ChunkedDataset, open_data

__all__ = [
    "ChunkedDataset",
    "Dataset",
    "Table",
    "load",
    "load_data",
    "load_data_wrapper",
    "mnist",
    "open_data",
    "read_table",
    "vectorized_result",
]
