"""Streams driven chunk by chunk in tests, and models drawn at random for them."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxconv as jc


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


def legal_length(stream, least):
    """Return the shortest legal length from ``least`` on."""
    for length in range(least, least + 2 * stream.block + 1):
        try:
            stream.plan.check_length(length)
        except ValueError:
            continue
        return length
    return least


# -- models at random

CHANNELS = 3


def _size(rng):
    return int(rng.integers(1, 5))


def keeping(rng):
    """Return a layer that keeps the length: one of a branch."""
    kernel, dilation = _size(rng), _size(rng)
    before = int(rng.integers(0, (kernel - 1) * dilation + 1))
    padding = ["same", "causal", (before, (kernel - 1) * dilation - before)][rng.integers(3)]
    kind = rng.integers(5)
    if kind == 0:
        return jc.DepthwiseConv1D(kernel, padding=padding, dilation_rate=dilation, activation="sigmoid")
    if kind == 1:
        return jc.SeparableConv1D(CHANNELS, kernel, padding=padding, dilation_rate=dilation)
    if kind == 2:
        return [jc.MaxPooling1D(kernel, 1, "same"), jc.AveragePooling1D(kernel, 1, "same")][rng.integers(2)]
    if kind == 3:
        return [jc.BatchNormalization(), jc.LayerNormalization(), jc.Activation("tanh"), jc.Dense(CHANNELS)][
            rng.integers(4)
        ]
    return jc.Conv1D(CHANNELS, kernel, padding=padding, dilation_rate=dilation, activation="sigmoid")


def changing(rng):
    """Return a layer that changes the length or the rate."""
    kernel, stride, kind = _size(rng), _size(rng), rng.integers(8)
    before, after = (int(n) for n in rng.integers(0, 4, 2))
    if kind == 0:
        return jc.Conv1D(CHANNELS, kernel, dilation_rate=_size(rng), activation="sigmoid")
    if kind == 1:
        padding = ["same", "causal", "valid", (before, after)][rng.integers(4)]
        return jc.Conv1D(CHANNELS, kernel, stride, padding, activation="sigmoid")
    if kind == 2:
        padding = ["same", "valid"][rng.integers(2)]
        return jc.Conv1DTranspose(CHANNELS, kernel, stride, padding, activation="sigmoid")
    if kind == 3:
        return jc.UpSampling1D(int(rng.integers(1, 4)), interpolation=["nearest", "bilinear"][rng.integers(2)])
    if kind == 4:
        return jc.ZeroPadding1D((before, after))
    if kind == 5:
        return jc.Cropping1D((before, after))
    pool = [jc.MaxPooling1D, jc.AveragePooling1D][rng.integers(2)]
    return pool(kernel, stride, ["same", "valid"][rng.integers(2)])


def random_model(rng, depth=2):
    """Return a model of residual, parallel, shared and nested parts between layers of all kinds."""
    parts = []
    for _ in range(int(rng.integers(2, 4))):
        kind = rng.integers(6)
        if kind == 0 and depth:
            parts.append(jc.Residual([keeping(rng) for _ in range(2)]))
        elif kind == 1 and depth:
            parts.append(jc.Parallel([keeping(rng), [keeping(rng), keeping(rng)], jc.Conv1D(CHANNELS, 1)], "add"))
        elif kind == 2 and depth:
            parts.append(shared(rng))
        elif kind == 3 and depth:
            parts.append(random_model(rng, depth - 1))
        else:
            parts.append([keeping, changing][rng.integers(2)](rng))
    return jc.Sequential(parts)


def shared(rng):
    """Return a graph that calls one layer twice, and adds both results."""
    x = jc.Input((None, CHANNELS))
    layer = jc.Conv1D(CHANNELS, _size(rng), padding="same", dilation_rate=_size(rng), activation="sigmoid")
    first = layer(x)
    return jc.Model(x, jc.Add()([first, layer(first), keeping(rng)(x)]))
