"""Layers of a user's own whose window is more than one step: masks and streams follow from the window."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.contract import POINTWISE, Effects, Layer, Window
from tests.support.messages import facts
from tests.support.streams import assert_streams


@dataclasses.dataclass(frozen=True)
class Taps(Layer):
    """Add the tanh of each tap, times its number, over windows of one axis; channels are the last axis."""

    window: Window

    def windows(self, input_shape):
        return (self.window, *[POINTWISE] * (len(input_shape) - 2))

    def call(self, params, x, *, train, key, mask):
        one = self.window
        x = jnp.pad(x, ((0, 0), one.pads(x.shape[1]), *[(0, 0)] * (x.ndim - 2)))
        count = (x.shape[1] - one.extent) // one.stride + 1
        taps = [j * one.dilation + one.stride * np.arange(count) for j in range(one.size)]
        return sum((j + 1) * jnp.tanh(x[:, steps]) for j, steps in enumerate(taps)), Effects()


WINDOWS = [Window(2, 2), Window(3, 2), Window(2, 3, 2), Window(3, 1, 4), Window(1, 3), Window(3, mode="reflect")]


@pytest.mark.parametrize("window", WINDOWS)
def test_each_sequence_gives_what_it_gives_alone(window):
    rng, apply_fn = np.random.default_rng(3), Taps(window).apply_fn
    x = rng.normal(size=(6, 17, 2)).astype(np.float32)
    starts, lengths = [0, 1, 2, 3, 4, 17], [17, 13, 10, 9, 13, 0]
    mask = np.array([[s <= t < s + n for t in range(17)] for s, n in zip(starts, lengths, strict=True)])
    y, effects = apply_fn.forward({}, jnp.where(mask[..., None], x, np.nan), train=False, key=None, mask=mask)
    for row, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        alone = (
            apply_fn({}, x[row : row + 1, start : start + length])[0] if length >= window.extent else np.zeros((0, 2))
        )
        np.testing.assert_allclose(y[row][effects.mask[row]], alone, rtol=1e-6)


@pytest.mark.parametrize("padding", ["same", "causal", (1, 0)])
def test_a_mask_over_padding_that_cannot_be_replaced_raises(padding):
    layer, x = Taps(Window(2, 2, padding=padding)), jnp.ones((1, 6, 2))
    with pytest.raises(TypeError, match=facts("Taps", "axis 1", "padding", "'valid'", "output_mask")):
        layer.apply_fn.forward({}, x, train=False, key=None, mask=jnp.ones((1, 6), bool))
    layer.apply_fn({}, x)  # without a mask it is computed


@pytest.mark.parametrize("window", WINDOWS)
def test_a_window_without_padding_streams(window):
    model = jc.Sequential([jc.Conv1D(2, 3, padding="causal"), Taps(window), jc.Conv1D(2, 2)])
    params, _ = model.init(jax.random.key(0), (2, 48, 3))
    x = jax.random.normal(jax.random.key(1), (2, 48, 3))
    assert_streams(jc.stream(model, (None, None, 3)), params, x, 1e-6, np.random.default_rng(0))


def test_a_window_with_padding_does_not_stream():
    with pytest.raises(ValueError, match=facts("Taps", "without padding")):
        jc.stream(Taps(Window(3, padding="causal")), (None, None, 3))


def test_the_warning_that_a_mask_ends_names_the_line_of_the_caller():
    model = jc.Sequential([jc.Conv1D(2, 3), jc.Sequential([jc.Flatten()])])
    params, apply_fn = model.init(jax.random.key(0), (1, 6, 2))
    x, mask = jnp.ones((1, 6, 2)), jnp.ones((1, 6), bool)
    runs = [apply_fn, jax.jit(apply_fn), jax.vmap(lambda params, x, mask: apply_fn(params, x, mask=mask), (None, 0, 0))]
    for run, batch in zip(runs, [False, False, True], strict=True):
        with pytest.warns(UserWarning, match="the mask ends here") as found:
            run(params, x[None], mask[None]) if batch else run(params, x, mask=mask)
        assert {one.filename for one in found if "the mask ends" in str(one.message)} == {__file__}
