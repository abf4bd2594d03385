"""Measures, for the convolutions of a model, which lowering is the fastest on this machine, and has it remembered."""

from jaxconv.tuning.measurement import tune

__all__ = ["tune"]
