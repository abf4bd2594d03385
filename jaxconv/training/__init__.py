"""Training, evaluation and prediction for any model that is given as ``(params, apply_fn)``.

The functional core is :mod:`.step`; :func:`fit` is the loop around it. Must not import a layer.
"""

from jaxconv.training.callbacks import (
    CSVLogger,
    EarlyStopping,
    EndEvent,
    EpochEvent,
    ProgressDisplay,
    StepEvent,
    TensorBoard,
)
from jaxconv.training.evaluation import evaluate, predict
from jaxconv.training.fit import fit
from jaxconv.training.learning_rate import RangeTest, find_learning_rate
from jaxconv.training.loop import Fitted, Interrupted, NonFiniteLoss
from jaxconv.training.losses import loss
from jaxconv.training.metrics import metric, metrics
from jaxconv.training.optimizers import optimizer, schedule
from jaxconv.training.step import TrainState, averaged_params, eval_step, init_state, train_step
from jaxconv.training.terms import metric_values

__all__ = [
    "CSVLogger",
    "EarlyStopping",
    "EndEvent",
    "EpochEvent",
    "Fitted",
    "Interrupted",
    "NonFiniteLoss",
    "ProgressDisplay",
    "RangeTest",
    "StepEvent",
    "TensorBoard",
    "TrainState",
    "averaged_params",
    "eval_step",
    "evaluate",
    "find_learning_rate",
    "fit",
    "init_state",
    "loss",
    "metric",
    "metric_values",
    "metrics",
    "optimizer",
    "predict",
    "schedule",
    "train_step",
]
