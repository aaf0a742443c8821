"""Pictures of trainings and networks, by matplotlib (the extra ``plot``), which is loaded when the first is drawn.

Each drawing is a `matplotlib.figure.Figure`; ``figure.savefig("picture.png")`` writes it.
"""

from gpunet.drawing import check_path
from gpunet.plots.learning_rate import learning_rate_finder
from gpunet.plots.network import confusion_matrix, first_layer_weights
from gpunet.plots.report import save, training_report
from gpunet.training.curves import training_curves

__all__ = [
    "check_path",
    "confusion_matrix",
    "first_layer_weights",
    "learning_rate_finder",
    "save",
    "training_curves",
    "training_report",
]
