"""Padded sequences: the cases of the catalogue that have them, and the comparison with separate sequences."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxconv as jc
from tests.support.catalogue import FIRST, flat, inputs, map_shapes, randomised

KEY = jax.random.key(0)
STEPS = 7  # of the catalogue's sequences
ENDS = jc.Flatten | jc.Reshape | jc.Permute | jc.RepeatVector  # a mask ends there, or begins
# weights for each step: a sequence begins at the first
BY_STEP = jc.LocallyConnected1D | jc.LocallyConnected2D | jc.LocallyConnected3D | jc.PReLU | jc.RMSNormalization
FILMS = jc.TimeDistributed | jc.ConvLSTM1D | jc.ConvLSTM2D | jc.ConvLSTM3D  # time is axis 1 in both data formats


def time_axis(layer, shape):
    """Return the axis of time, or of the rows of an image, in an input of this shape; None where it has none."""
    inside = getattr(layer, "layer", layer)
    channels_axis = isinstance(inside, jc.BatchNormalization | jc.GroupNormalization) and inside.axis == 1
    first = getattr(inside, "data_format", None) == FIRST or channels_axis
    axis = 2 if first and not isinstance(layer, FILMS) else 1
    return axis if len(shape) > 3 or (len(shape) == 3 and shape[axis] == STEPS) else None


def shapes_of(case):
    return case.shape if isinstance(case.shape, list) else [case.shape]


def takes_sequences(case):
    shapes = shapes_of(case)
    if isinstance(case.layer, ENDS) or not all(isinstance(shape, tuple) for shape in shapes):
        return False
    return any(len(shape) == 3 and time_axis(case.layer, shape) for shape in shapes)


def takes_images(case):
    """Return whether the input is one array with rows, of which a mask (batch, rows) says which are real."""
    one = isinstance(case.shape, tuple) and len(case.shape) > 3
    return one and not any(isinstance(layer, ENDS) for layer in flat(case.layer) if not isinstance(case.layer, FILMS))


def for_length(layer, params, shape):
    """Return the params for shorter sequences: weights of a step of their own are those of the first steps."""
    wanted = jax.eval_shape(lambda: layer.init(KEY, shape)[0])
    return jax.tree.map(lambda v, w: v[tuple(slice(0, n) for n in w.shape)], params, wanted)


def along(mask, y, axis):
    """Reshape a mask to broadcast against an output with time at ``axis``."""
    return jnp.expand_dims(mask, [a for a in range(y.ndim) if a not in (0, axis)])


def assert_padded_is_alone(layer, shapes, length, start, rtol):
    """Check a batch of four against its sequences alone: one whole, one padded after, one around, one all padding.

    Compared are real outputs, the activity penalty, and the gradient of a sum over the real outputs.
    """
    several = isinstance(shapes, list)
    axes = [time_axis(layer, shape) for shape in (shapes if several else [shapes])]
    out = next(axis for axis in axes if axis)
    whole_length = next(shape[axis] for axis, shape in zip(axes, shapes if several else [shapes], strict=True) if axis)
    shapes = map_shapes(lambda s: (4, *s[1:]), shapes)
    begin, count = np.array([0, 0, start, 0]), np.array([whole_length, length, length, 0])
    steps = np.arange(whole_length)[None]
    mask = (steps >= begin[:, None]) & (steps < (begin + count)[:, None])
    params, apply_fn = layer.init(KEY, shapes)
    params, whole = randomised(params), inputs(shapes) if several else [inputs(shapes)]
    pack = (lambda parts: parts) if several else (lambda parts: parts[0])
    # NaN in the padding would show in any value or gradient that it reaches
    x = [
        v if a is None else jnp.where(along(mask, v, a), v, jnp.asarray(jnp.nan, v.dtype))
        for v, a in zip(whole, axes, strict=True)
    ]
    masks = pack([None if a is None else mask for a in axes])

    def part(v, axis, row):
        v = v[row : row + 1]
        return v if axis is None else jax.lax.slice_in_dim(v, begin[row], begin[row] + count[row], axis=axis)

    groups = [[part(v, a, 0) for v, a in zip(whole, axes, strict=True)]]
    groups += [[jnp.concatenate([part(v, a, 1), part(v, a, 2)]) for v, a in zip(whole, axes, strict=True)]]
    try:
        for_length(layer, params, jax.tree.map(jnp.shape, pack(groups[1])))
    except ValueError:
        groups.pop()  # alone it would be refused: nothing of it may be real

    def total(y, real):
        y = y.astype(jnp.float32)
        return jnp.sum(jnp.square(y) + y, where=real)

    def padded(params):
        y, effects = apply_fn.forward(params, pack(x), mask=masks)
        real = (count > 0).reshape(-1, *(1,) * (y.ndim - 1)) if effects.mask is None else along(effects.mask, y, out)
        return total(y, real), (y, effects.mask, effects.penalty * 4)

    def alone(params):
        ys, penalty = [], 0.0
        for group in groups:
            own = for_length(layer, params, jax.tree.map(jnp.shape, pack(group)))
            y, effects = apply_fn.forward(own, pack(group))
            ys, penalty = [*ys, y], penalty + effects.penalty * len(y)
        return sum(total(y, True) for y in ys), (ys, penalty)

    both = jax.jit(lambda p: [jax.value_and_grad(f, has_aux=True)(p) for f in (padded, alone)])
    ((_, (y, mask, penalty)), gradient), ((_, (ys, own_penalty)), own_gradient) = both(params)
    lone = [v for group in ys for v in np.asarray(group, np.float64)] + [None] * 4
    for row in range(4):
        got = np.asarray(y[row], np.float64)
        if mask is not None:
            got = np.compress(np.asarray(mask[row]), got, axis=out - 1)
        if count[row] and lone[row] is not None:
            scale = max(1, np.abs(lone[row]).max(initial=0))
            np.testing.assert_allclose(got, lone[row], rtol, rtol * scale, err_msg=f"row {row}")
        else:
            assert got.size == 0 or mask is None
    assert mask is not None or np.isfinite(np.asarray(y, np.float64)).all()
    np.testing.assert_allclose(penalty, own_penalty, rtol=max(rtol, 1e-5))
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(own_gradient), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, 10 * rtol, 10 * rtol * max(1, np.abs(b).max(initial=0)))
