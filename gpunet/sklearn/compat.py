"""What is not the same in all versions of scikit-learn from 1.5 on."""

from __future__ import annotations

from typing import Any

from gpunet import optional
from gpunet.errors import MissingPackageError

sklearn = optional.library("sklearn", "gpunet.sklearn", "gpunet[sklearn]")

#: Such as (1, 7).
VERSION = tuple(int(part) for part in sklearn.__version__.split(".")[:2])

if VERSION < (1, 5):
    raise MissingPackageError(
        f"gpunet.sklearn needs scikit-learn 1.5 or newer, got {sklearn.__version__}: "
        "pip install --upgrade 'gpunet[sklearn]'"
    )


def validate_data(estimator: Any, X: Any, y: Any = "no_validation", **checks: Any) -> Any:
    """Return checked X, or X and y, and set or compare the estimator's features."""
    if VERSION < (1, 6):
        return estimator._validate_data(X, y, **checks)
    from sklearn.utils.validation import validate_data

    return validate_data(estimator, X, y, **checks)
