"""Streams driven chunk by chunk in tests."""

import jax
import jax.numpy as jnp
import numpy as np


def drive(stream, params, x, rng, most=2):
    """Feed one input in random chunks, with NaN after its end; return (real outputs, state structure kept).

    Outputs keep the structure of the model's; each has its real steps alone, for the first row.
    """
    leaves, form = jax.tree.flatten(x)
    axis, length = stream.axis, leaves[0].shape[stream.axis]
    total = -(-length // stream.block) * stream.block + stream.flush
    step = jax.jit(stream.step)
    state = stream.init(leaves[0].shape[0])
    want = jax.tree.map(lambda v: (v.shape, v.dtype), state)
    at, outputs, masks = 0, [], []
    while at < total:
        size = min(stream.block * int(rng.integers(1, most + 1)), total - at)
        chunk = []
        for leaf in leaves:
            own = np.full((*leaf.shape[:axis], size, *leaf.shape[axis + 1 :]), np.nan, np.float64)
            part = np.asarray(jnp.take(leaf, jnp.arange(at, min(at + size, length)), axis))
            own[(slice(None),) * axis + (slice(part.shape[axis]),)] = part
            own = np.nan_to_num(own) if jnp.issubdtype(leaf.dtype, jnp.integer) else own
            chunk.append(jnp.asarray(own, leaf.dtype))
        mask = np.broadcast_to(np.arange(at, at + size) < length, (leaves[0].shape[0], size))
        y, real, state = step(params, state, form.unflatten(chunk), jnp.asarray(mask))
        assert jax.tree.map(lambda v: (v.shape, v.dtype), state) == want
        outputs.append(y)
        masks.append(real)
        at += size
    axes = times(stream)
    together = jax.tree.map(lambda *m: np.concatenate(m, 1), *masks)
    whole = [
        np.concatenate([np.asarray(jax.tree.leaves(y)[index]) for y in outputs], axis)
        for index, axis in enumerate(axes)
    ]
    real = [np.flatnonzero(mask[0]) for mask in jax.tree.leaves(together)]
    return [np.take(y, r, axis) for y, r, axis in zip(whole, real, axes, strict=True)]


def times(stream):
    """Return the axis of time in each output."""
    return [stream.plan.signals[index].time for index in stream.plan.outputs]


def assert_streams(stream, params, x, tolerance, rng, most=2):
    """Check that the real outputs of a driven stream are those of the model, in value and in number."""
    y = jax.tree.leaves(jax.jit(stream.layer.apply_fn)(params, x))
    for got, want, axis in zip(drive(stream, params, x, rng, most), y, times(stream), strict=True):
        want = np.asarray(want)
        if got.ndim == want.ndim + 1:  # time has been reduced
            got = np.take(got, -1, axis)
        assert got.shape == want.shape and got.dtype == want.dtype
        scale = max(np.abs(want.astype(np.float64)).max(initial=0), 1e-3)
        np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=0, atol=tolerance * scale)


def valid_length(stream, least):
    """Return the shortest valid length from ``least`` on."""
    for length in range(least, least + 2 * stream.block + 1):
        try:
            stream.plan.check_length(length)
        except ValueError:
            continue
        return length
    return least
