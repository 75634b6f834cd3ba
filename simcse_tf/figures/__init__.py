"""Every plot of the paper's evaluation, in one style, light and dark.

Each function takes arrays, knows no model, and returns a `matplotlib.figure.Figure`
with no pyplot state; `save` and `to_svg` write it. The same data give the same bytes.
"""

from simcse_tf.figures.geometry import Trajectory, singular_values, trajectory
from simcse_tf.figures.output import save, to_svg
from simcse_tf.figures.scores import sts_scores, sweep
from simcse_tf.figures.search import recall_over_rate
from simcse_tf.figures.similarity import cosine_density
from simcse_tf.figures.training import training_curves

__all__ = [
    "Trajectory",
    "cosine_density",
    "recall_over_rate",
    "save",
    "singular_values",
    "sts_scores",
    "sweep",
    "to_svg",
    "training_curves",
    "trajectory",
]
