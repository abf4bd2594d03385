"""Every loss by Keras's names: the distance of predictions from targets, one value per sample.

Knows arrays only: no models, no penalties, no optimizers.
"""

from typing import Any

from jaxconv.training.classification_losses import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    CategoricalHinge,
    Hinge,
    KLDivergence,
    SparseCategoricalCrossentropy,
    SquaredHinge,
)
from jaxconv.training.loss import Loss, losses, resolve
from jaxconv.training.regression_losses import (
    CosineSimilarity,
    Huber,
    LogCosh,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Poisson,
)

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "CategoricalHinge",
    "CosineSimilarity",
    "Hinge",
    "Huber",
    "KLDivergence",
    "LogCosh",
    "Loss",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Poisson",
    "SparseCategoricalCrossentropy",
    "SquaredHinge",
    "loss",
    "losses",
]


def loss(identifier: Any) -> Any:
    """Return a loss for a name, a table with a name and options, Keras's config dict, or any callable.

    Args:
        identifier: ``"mse"``, ``{"name": "huber", "delta": 0.5}``, ``{"class_name": "Huber", "config": {...}}``, or a
            callable ``(y_true, y_pred) -> values`` whose mean is minimized.

    Raises:
        ValueError: an unknown name or option; the message gives the nearest legal one.
        TypeError: anything else.

    >>> loss({"name": "huber", "delta": 0.5})
    Huber(delta=0.5)
    """
    return resolve(losses, identifier)
