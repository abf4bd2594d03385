"""Inference with trained models: optimization, ahead-of-time compilation and export.

Must not import ``jaxconv.training``.
"""

from jaxconv.serving.artifact import export, load_exported
from jaxconv.serving.compilation import compile
from jaxconv.serving.optimization import optimize

__all__ = ["compile", "export", "load_exported", "optimize"]
