"""The laws of the contract (jaxconv/contract/layer.py), over every layer of the catalogue."""

import functools
import json
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxconv as jc
from jaxconv.contract import layers, merge
from tests.support.catalogue import (
    CASES,
    TAGS,
    Case,
    in_float64,
    in_other_format,
    inputs,
    map_shapes,
    randomised,
    tolerance,
)
from tests.support.padded import BY_STEP, assert_padded_is_alone, takes_images, takes_sequences, time_axis
from tests.support.streams import assert_streams, valid_length

KEY = jax.random.key(0)
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
# the first case of each layer; those of one, two and three dimensions share their code, and count as one
FIRST = {type(case.layer).__name__.rstrip("123D"): name for name, case in reversed(CASES.items())}.values()
EACH = {name: (case,) for name, case in CASES.items()}


def has_weights(layer):
    return bool(layer.leaves or layer.children)


def has_nontrivial_gradient(layer):
    return has_weights(layer) or layer.needs_key or isinstance(layer, jc.Dot | jc.Softmax | jc.MaxPooling1D)


def costly(cases, always=lambda layer: True):
    """Return the parameters of a law that is expensive to check: one case of a layer by default, the others when slow.

    always: where it is very expensive, which layers are checked by default.
    """
    return [
        pytest.param(
            *values,
            id=name,
            marks=() if name.partition("-")[0] in FIRST and always(values[0].layer) else pytest.mark.slow,
        )
        for name, values in cases.items()
    ]


def quick_first(names, firsts):
    """Return names as parameters, of which only some are checked by default."""
    return [pytest.param(name, id=name, marks=() if name in firsts else pytest.mark.slow) for name in names]


@functools.cache
def made(case):
    """Return (params, apply_fn, x) of a case, with every leaf of params away from its special first value."""
    params, apply_fn = case.layer.init(KEY, case.shape)
    return randomised(params), apply_fn, inputs(case.shape)


def assert_same_tree(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_array_equal(a, b)


def assert_close(got, want, rtol):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol, atol=rtol * max(np.abs(b).max(initial=0), 1e-3))


def test_the_catalogue_holds_every_layer():
    seen = {type(layer) for case in CASES.values() for layer in (case.layer, *case.layer.children.values())}
    assert {layers[name] for name in layers.names()} <= seen


def is_shape(value):
    return isinstance(value, tuple)


# -- law 1


@pytest.mark.few(3)
@pytest.mark.parametrize("case", costly(EACH))
def test_inference_is_forward_and_jit_and_vmap_change_nothing(case):
    params, apply_fn, x = made(case)
    y = apply_fn(params, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(y)} == {layer_output_dtype(case.layer)}

    @jax.jit
    def ways(params, x):
        def one(sample):
            return jax.tree.map(lambda v: v[0], apply_fn(params, jax.tree.map(lambda v: v[None], sample)))

        return apply_fn.forward(params, x)[0], jax.vmap(one)(x)

    forward, one_by_one = ways(params, x)
    assert_close(forward, y, tolerance(case.layer))
    assert_close(one_by_one, y, tolerance(case.layer))


def layer_output_dtype(layer):
    if layer.children:
        return layer_output_dtype(list(layer.children.values())[-1])
    return layer.policy.compute


def has_format(layer):
    if layer.children:
        return all(has_format(child) or not spatial(child) for child in layer.children.values())
    return hasattr(layer, "data_format") or isinstance(
        layer, jc.BatchNormalization | jc.GroupNormalization | jc.Dropout
    )


def spatial(layer):
    return not isinstance(layer, jc.Dense | jc.Flatten | jc.Embedding)


WITH_FORMAT = {
    name: case
    for name, case in CASES.items()
    if isinstance(case.shape, tuple)
    and len(case.shape) > 2
    and name not in TAGS["one_format"]
    and has_format(case.layer)
}


@pytest.mark.few(3)
@pytest.mark.parametrize("case", costly({name: (case,) for name, case in WITH_FORMAT.items()}))
def test_both_data_formats_agree(case):
    params, apply_fn, x = made(case)
    other = in_other_format(case.layer)
    inside = getattr(case.layer, "layer", case.layer)
    first = getattr(inside, "data_format", None) == "channels_first" or getattr(inside, "axis", -1) == 1
    source, target = (1, -1) if first else (-1, 1)
    y, moved = apply_fn(params, x), other.apply_fn(params, jnp.moveaxis(x, source, target))
    if y.ndim > 2:
        moved = jnp.moveaxis(moved, target, source)
    assert_close(moved, y, tolerance(case.layer))


# -- law 2


@pytest.mark.few(10)
@pytest.mark.parametrize("case", costly(EACH))
def test_split_and_merge_are_inverse_and_effects_keep_the_structure(case):
    params, apply_fn, x = made(case)
    trainable, fixed = apply_fn.split(params)
    assert_same_tree(merge(trainable, fixed), params)
    assert_same_tree(apply_fn.forward(params, x)[1].fixed, fixed)
    effects = jax.eval_shape(lambda: apply_fn.forward(params, x, train=True, key=KEY)[1])
    leaves = jax.tree.map(lambda v: (v.shape, v.dtype), effects.fixed, is_leaf=lambda v: hasattr(v, "shape"))
    assert leaves == jax.tree.map(lambda v: (v.shape, v.dtype), fixed)
    assert (effects.penalty.shape, effects.penalty.dtype) == ((), jnp.float32)


# -- law 3


@pytest.mark.few(4)
@every_case
def test_project_is_idempotent_and_penalty_is_a_finite_scalar(case):
    params, apply_fn, _ = made(case)
    params = jax.tree.map(lambda v: v * 3 - 1, params)  # some negative, some long
    once = apply_fn.project(params)
    twice = apply_fn.project(once)
    _, fixed = apply_fn.split(params)
    assert_same_tree(apply_fn.split(once)[1], fixed)
    assert jax.tree.map(lambda v: (v.shape, v.dtype), once) == jax.tree.map(lambda v: (v.shape, v.dtype), params)
    for a, b in zip(jax.tree.leaves(twice), jax.tree.leaves(once), strict=True):
        # Keras divides by the norm plus 1e-7, so a second projection shrinks by about that much again
        assert_close(a, b, 1e-6 if a.dtype == jnp.float32 else 4e-3)
    penalty = apply_fn.penalty(params)
    assert penalty.shape == () and penalty.dtype == jnp.float32 and jnp.isfinite(penalty) and penalty >= 0


# -- law 4


def holds_statistics(layer):
    return isinstance(layer, jc.BatchNormalization) or any(map(holds_statistics, layer.children.values()))


# a second derivative would be one of noise where a layer computes in half precision: all run in float64
DERIVATIVES = {f"{name}-train": (case, True) for name, case in CASES.items() if name not in TAGS["stop_gradient"]}
DERIVATIVES |= {
    f"{name}-inference": (case, False)
    for name, case in CASES.items()
    if name in TAGS["stop_gradient"] or holds_statistics(case.layer)
}


@pytest.mark.few(3)
@pytest.mark.parametrize("case, train", costly(DERIVATIVES, has_nontrivial_gradient))
def test_reverse_forward_and_second_derivatives_agree_with_finite_differences(case, train, x64):
    params, apply_fn, _ = made(Case(in_float64(case.layer), case.shape))
    trainable, fixed = apply_fn.split(params)
    point = (trainable, inputs(case.shape, dtype=jnp.float64))

    def value(trainable, x):
        params = merge(trainable, fixed)
        y, effects = apply_fn.forward(params, x, train=train, key=KEY)
        total = effects.penalty + apply_fn.penalty(params)
        for leaf in jax.tree.leaves(y):
            weight = jax.random.normal(jax.random.key(9), leaf.shape, leaf.dtype)
            total = total + jnp.sum(weight * leaf) + jnp.sum(jnp.square(leaf))
        return total

    def direction(seed):
        leaves, tree = jax.tree.flatten(point)
        keys = jax.random.split(jax.random.key(seed), len(leaves))
        return tree.unflatten([jax.random.normal(k, v.shape, v.dtype) for k, v in zip(keys, leaves, strict=True)])

    def dot(a, b):
        return sum(jnp.vdot(u, v) for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))

    ahead, aside = direction(3), direction(4)

    @jax.jit  # the arrays are arguments: as constants the compiler would evaluate everything itself, slowly
    def everything(point, ahead, aside):
        def along(t):
            return jax.tree.map(lambda p, d: p + t * d, point, ahead)

        def first(t):
            return value(*along(t))

        def reverse(t):
            return dot(jax.grad(value, argnums=(0, 1))(*along(t)), aside)

        zero, one, step = jnp.zeros(()), jnp.ones(()), jnp.array([1e-5, -1e-5])
        forward = jax.jvp(first, (zero,), (one,))[1]
        at_once, second = jax.jvp(reverse, (zero,), (one,))
        return at_once, forward, second, jax.vmap(first)(step), jax.vmap(reverse)(step)

    _, forward, second, values, gradients = everything(point, ahead, aside)
    backward = everything(point, aside, ahead)[0]
    # central differences: the square of the step, and rounding divided by the step, are both about 1e-10
    np.testing.assert_allclose(forward, (values[0] - values[1]) / 2e-5, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(backward, forward, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(second, (gradients[0] - gradients[1]) / 2e-5, rtol=1e-6, atol=1e-6)


# -- law 5


@pytest.mark.few(30)
@every_case
def test_config_round_trip_gives_an_equal_layer_and_equal_params(case):
    again = type(case.layer).from_config(json.loads(json.dumps(case.layer.get_config())))
    assert again == case.layer and hash(again) == hash(case.layer) and again.apply_fn == case.layer.apply_fn
    assert layers.get(json.loads(json.dumps(layers.serialize(case.layer)))) == case.layer
    assert_same_tree(again.init(KEY, case.shape)[0], case.layer.init(KEY, case.shape)[0])


# -- law 6


def candidates(layer, shape):
    """Return shapes to try: some are invalid for most layers."""
    rng = np.random.default_rng(0)
    if not isinstance(shape, tuple):  # several inputs: alike, and each in its own way
        alike = [map_shapes(lambda s, n=n: (s[0], *(n or size for size in s[1:])), shape) for n in (0, 2)]
        apart = [map_shapes(lambda s: (s[0], *rng.integers(0, 5, len(s) - 1).tolist()), shape) for _ in range(3)]
        return [*alike, *apart, shape, map_shapes(lambda s: (0, *s[1:]), shape)]
    fixed_axes = {0, 1, len(shape) - 1}  # the batch, and the channels of either format
    shapes = [tuple(n if i in fixed_axes else int(rng.integers(0, 9)) for i, n in enumerate(shape)) for _ in range(4)]
    if getattr(layer, "data_format", None) == "channels_last" and len(shape) == 3:
        shapes += [(2, n, shape[-1]) for n in range(5)]
    return [*shapes, shape, (0, *shape[1:])]


@pytest.mark.few(15)
@every_case
def test_output_shape_is_the_shape_given_or_init_raises(case):
    layer, shape = case
    params, apply_fn = layer.init(KEY, shape)
    for candidate in candidates(layer, shape):
        x = map_shapes(lambda s: jax.ShapeDtypeStruct(s, jnp.float32), candidate)
        as_first = map_shapes(lambda s: s[1:], candidate) == map_shapes(lambda s: s[1:], shape)
        try:
            own = params if as_first else jax.eval_shape(lambda k, x=x: layer.init(k, x)[0], KEY)
        except ValueError as error:
            assert not as_first, error
            with pytest.raises(ValueError):
                layer.output_shape(candidate)
            with pytest.raises(ValueError):
                jax.eval_shape(apply_fn, params, x)
            continue
        want = layer.output_shape(candidate)
        assert jax.tree.map(lambda v: v.shape, jax.eval_shape(apply_fn, own, x)) == want
        unknown = layer.output_shape(map_shapes(lambda s: (None, *s[1:]), candidate))
        assert unknown == map_shapes(lambda s: (None, *s[1:]), want)


@every_case
def test_unknown_lengths_stay_unknown(case):
    layer, shape = case

    def forget(shape):
        channels = 1 if getattr(layer, "data_format", None) == "channels_first" else len(shape) - 1
        return tuple(n if i == channels else None for i, n in enumerate(shape))

    unknown = map_shapes(forget, shape)
    if any(isinstance(child, jc.Dense) for child in layer.children.values()) and "flatten" in layer.children:
        with pytest.raises(ValueError, match="channel count"):
            layer.init(KEY, unknown)
        return
    got = jax.tree.leaves(layer.output_shape(unknown), is_leaf=lambda s: isinstance(s, tuple))
    want = jax.tree.leaves(layer.output_shape(shape), is_leaf=lambda s: isinstance(s, tuple))
    for one, other in zip(got, want, strict=True):
        assert len(one) == len(other)
        assert all(a is None or a == b for a, b in zip(one, other, strict=True))


# -- law 7


STREAMED = {
    name: case for name, case in CASES.items() if max(map(len, jax.tree.leaves(case.shape, is_leaf=is_shape))) > 2
}
# what reads all steps, treats them differently, or merges without a time axis: case -> a fact of the reason
NOT_STREAMED = {
    "conv1d_reflected": "'reflect'", "prelu": "own for each step", "reshape": "all steps", "dot": "does not merge",
    "softmax_layer": "all steps", "layer_normalization_axes": "all steps", "rms_normalization": "all steps",
    "unit_normalization": "all steps", "group_normalization": "all steps", "group_normalization_first": "all steps",
    "instance_normalization": "all steps", "spectral_normalization_frozen": "all steps", "add": "does not merge",
    "model_two_outputs": "does not merge", "lstm_backwards": "all steps", "gru_without_bias": "all steps",
    "conv_lstm1d_first": "all steps", "lstm_initial_state": "first states",
}  # fmt: skip
NOT_STREAMED |= {name: "own for each step" for name in CASES if name.startswith("locally_connected")}
NOT_STREAMED |= {name: "all steps" for name in CASES if name.startswith(("adaptive", "bidirectional", "multi_head"))}
del NOT_STREAMED["multi_head_attention_frames"]


@pytest.mark.few(3)
@pytest.mark.parametrize("case, name", costly({name: (case, name) for name, case in STREAMED.items()}))
def test_a_stream_in_random_chunks_equals_the_whole(name, case):
    channels_first = getattr(case.layer, "data_format", None) == "channels_first" or "first" in name
    axis = 2 if channels_first and "conv_lstm" not in name else 1
    if name in NOT_STREAMED:
        with pytest.raises(ValueError, match=NOT_STREAMED[name]):
            jc.stream(case.layer, case.shape, axis=axis)
        return
    running = jc.stream(case.layer, case.shape, axis=axis, pooling="cumulative")
    params, _, x = made(case)
    # all inputs have one length; "same" with a stride needs one that the block divides
    length = valid_length(running, jax.tree.leaves(x)[0].shape[axis])
    x = inputs(map_shapes(lambda s: (*s[:axis], length, *s[axis + 1 :]), case.shape))
    assert_streams(running, params, x, tolerance(case.layer), np.random.default_rng(0))


# -- law 8


@pytest.mark.few(2)
@pytest.mark.parametrize("case", costly(EACH, lambda layer: has_weights(layer) or layer.needs_key))
def test_same_key_same_params_and_same_result_with_the_batch_on_eight_devices(case):
    layer, shape = case.layer, map_shapes(lambda s: (8, *s[1:]), case.shape)
    if jax.device_count() < 8:
        pytest.skip("needs eight devices; tests/conftest.py forces them on the CPU")
    mesh = Mesh(np.array(jax.devices()[:8]), ("batch",))

    def run(key, x):
        params, apply_fn = layer.init(key, x)
        return params, apply_fn.forward(params, x, train=True, key=KEY)

    x = inputs(shape)
    params, (y, effects) = run(KEY, x)
    spread = jax.device_put(x, NamedSharding(mesh, PartitionSpec("batch")))
    own, (sharded, own_effects) = jax.jit(run)(KEY, spread)
    for a, b in zip(jax.tree.leaves(own), jax.tree.leaves(params), strict=True):
        assert_close(
            a, b, 1e-6 if a.dtype == jnp.float32 else 1e-2
        )  # the same numbers; compiled, the last bit may differ
    assert_close(sharded, y, tolerance(layer))
    assert_close(own_effects, effects, tolerance(layer))


# -- law 9

SEQUENCES = {name: (case,) for name, case in CASES.items() if takes_sequences(case)}
FIRST_SEQUENCES = {type(case.layer): name for name, (case,) in reversed(SEQUENCES.items())}.values()


@pytest.mark.few(2)
@pytest.mark.parametrize("name", quick_first(SEQUENCES, FIRST_SEQUENCES))
def test_a_padded_sequence_gives_what_it_gives_alone_whatever_is_in_the_padding(name):
    (case,) = SEQUENCES[name]
    length = 3 + zlib.crc32(name.encode()) % 3
    start = 0 if isinstance(case.layer, BY_STEP) else 2
    assert_padded_is_alone(case.layer, case.shape, length, start, tolerance(case.layer))


IMAGES = {name: case for name, case in CASES.items() if takes_images(case)}


@pytest.mark.few(2)
@pytest.mark.parametrize("name", IMAGES)
def test_an_image_with_padded_rows_gives_what_it_gives_alone(name):
    layer, shape = IMAGES[name]
    rows = shape[time_axis(layer, shape)]
    length = max(1, rows - 1 - zlib.crc32(name.encode()) % 2)
    by_row = isinstance(layer, BY_STEP) or isinstance(getattr(layer, "axis", None), tuple)
    assert_padded_is_alone(layer, shape, length, 0 if by_row else 1, tolerance(layer))


@pytest.mark.few(3)
@pytest.mark.parametrize("name", [*quick_first(SEQUENCES, FIRST_SEQUENCES), *quick_first(IMAGES, IMAGES)])
def test_a_mask_that_is_true_everywhere_changes_nothing(name):
    case = CASES[name]
    params, apply_fn, x = made(case)
    several = isinstance(x, list)
    masks = []
    for value in x if several else [x]:
        axis = time_axis(case.layer, value.shape)
        masks.append(None if axis is None else jnp.ones((value.shape[0], value.shape[axis]), bool))
    options = {"train": name in IMAGES, "key": KEY}
    y = apply_fn.forward(params, x, **options)[0]
    got = apply_fn.forward(params, x, mask=masks if several else masks[0], **options)[0]
    assert_close(got, y, tolerance(case.layer))
