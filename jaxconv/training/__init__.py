"""Training, evaluation and prediction for every model that follows the contract of ``(params, apply_fn)``.

Does not know what a convolution is. The functional core is :mod:`.step`; :func:`fit` is the loop around it.
"""

from jaxconv.training.evaluation import evaluate, predict
from jaxconv.training.fit import fit
from jaxconv.training.loop import EarlyStopping, Fitted, Interrupted, NonFiniteLoss, StepEvent
from jaxconv.training.losses import loss
from jaxconv.training.metrics import metric, metrics
from jaxconv.training.optimizers import optimizer, schedule
from jaxconv.training.step import TrainState, eval_step, init_state, metric_values, train_step

__all__ = [
    "EarlyStopping",
    "Fitted",
    "Interrupted",
    "NonFiniteLoss",
    "StepEvent",
    "TrainState",
    "eval_step",
    "evaluate",
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
