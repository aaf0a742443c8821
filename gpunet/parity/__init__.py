"""Parity: that two backends compute the same thing, verb by verb and along a training.

Each verb runs on both backends with the same random inputs in the shapes that break kernels, and both results are
compared with each other and with a reference of wider precision (`reference`), so that it shows which of the
two is off. Then both train from the same parameters on the same mini-batches. `docs/parity.md` derives the
tolerances.
"""

from gpunet.parity.comparison import DTYPES, compare
from gpunet.parity.results import Report, Row, Training

__all__ = ["DTYPES", "Report", "Row", "Training", "compare"]
