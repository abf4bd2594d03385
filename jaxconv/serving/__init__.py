"""Trained models at inference: made smaller, compiled ahead of time, exported. Independent of training."""

from jaxconv.serving.artifact import export, load_exported
from jaxconv.serving.compilation import compile
from jaxconv.serving.optimization import optimize

__all__ = ["compile", "export", "load_exported", "optimize"]
