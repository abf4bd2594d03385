"""Keras's ``Sequential`` with ``compile``, ``fit`` and ``predict``, implemented with jaxconv's training step.

Independent of test cases. Batches may have different shapes.
"""

from typing import Any

import jax
import numpy as np

import jaxconv
from jaxconv import training
from tests.keras_suite.adapter import arrays, stand_in


class Sequential(stand_in(jaxconv.Sequential)):  # type: ignore[misc]
    """A stand-in with training for one epoch."""

    def compile(self, optimizer: Any = "rmsprop", loss: Any = None) -> None:
        self.optimizer, self.loss = training.optimizer(optimizer), training.loss(loss)

    def fit(self, x: Any, y: Any = None, steps_per_epoch: int | None = None, epochs: int = 1) -> list[float]:
        """Train one step on (x, y), or on each batch of an iterator. Return the losses, which are finite."""
        assert epochs == 1
        batches = [(x, y)] if y is not None else list(x)
        assert len(batches) == (steps_per_epoch or 1)
        if not self.built:
            self.build(np.shape(batches[0][0]))
        state = training.init_state(self.apply_fn, self.params, self.optimizer)
        step = jax.jit(training.train_step(self.apply_fn, self.loss, self.optimizer))
        losses = []
        for index, (inputs, targets) in enumerate(batches):
            state, sums = step(state, arrays(inputs), arrays(targets), jax.random.key(index))
            losses.append(training.metric_values(sums, ())["loss"])
        assert np.isfinite(losses).all()
        for value, weight in zip(jax.tree.leaves(state.params), self.weights, strict=True):
            weight.assign(value)
        return losses

    def predict(self, x: Any, **_: Any) -> np.ndarray:
        """Return the outputs for an array, or for all batches of an iterator."""
        batches = [(x,)] if hasattr(x, "shape") else x
        return np.concatenate([np.asarray(self(inputs)) for inputs, *_ in batches])
