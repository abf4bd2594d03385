"""Training, evaluation and prediction for anything that keeps the contract of ``(params, apply_fn)``.

Does not know what a convolution is. The functional core is :mod:`.step`; :func:`fit` is the loop on top of it.
"""

from jaxconv.training.fit import EarlyStopping, Fitted, Interrupted, NonFiniteLoss, evaluate, fit, predict
from jaxconv.training.losses import loss
from jaxconv.training.metrics import metric, metrics
from jaxconv.training.optimizers import optimizer, schedule
from jaxconv.training.step import TrainState, eval_step, figures, init_state, train_step

__all__ = [
    "EarlyStopping",
    "Fitted",
    "Interrupted",
    "NonFiniteLoss",
    "TrainState",
    "eval_step",
    "evaluate",
    "figures",
    "fit",
    "init_state",
    "loss",
    "metric",
    "metrics",
    "optimizer",
    "predict",
    "schedule",
    "train_step",
]
