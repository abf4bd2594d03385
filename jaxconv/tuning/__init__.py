"""Measure which lowering of each convolution of a model is the fastest on this machine, and store the results."""

from jaxconv.tuning.measurement import tune

__all__ = ["tune"]
