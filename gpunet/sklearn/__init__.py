"""scikit-learn's `MLPClassifier` and `MLPRegressor`, trained by gpunet.

The classes have scikit-learn's parameters, attributes, methods, warnings and errors; with the same `random_state`
they begin with the same weights and see the same mini-batches. docs/sklearn.md tells what they can beyond that, and
what differs.

    from gpunet.sklearn import MLPClassifier  # instead of: from sklearn.neural_network import MLPClassifier
"""

from gpunet.sklearn import compat as compat  # first: it says so if scikit-learn is missing or too old
from gpunet.sklearn.classifier import MLPClassifier
from gpunet.sklearn.exchange import from_sklearn, to_sklearn
from gpunet.sklearn.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor", "from_sklearn", "to_sklearn"]
