"""Masks: a padded sequence has the same values and gradients as without padding, in every layer of one dimension."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.contract.masks import valid_range
from tests.support.catalogue import inputs
from tests.support.padded import BY_STEP, STEPS, assert_padded_is_alone

KEY = jax.random.key(0)
FIRST = "channels_first"


def drawn(seed):
    """Draw a layer with a window, with any of its options."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(["conv", "depthwise", "separable", "local", "transpose", "pool", "edge", "up"])
    size, stride, rate = (int(rng.integers(1, high)) for high in (5, 4, 3))
    pads = tuple(rng.integers(0, 4, 2).tolist())
    names = ["valid", "same"] + ["causal"] * (kind != "transpose")
    padding = [*names, pads][rng.integers(len(names) + 1)]
    mode = str(rng.choice(["zeros", "reflect", "replicate", "circular"]))
    last = {"data_format": str(rng.choice(["channels_last", FIRST]))}
    window = {"strides": stride, "padding": padding, **last}
    make = {
        "conv": lambda: jc.Conv1D(
            4, size, dilation_rate=rate, groups=2, padding_mode=mode, strides_with_dilation=True, **window
        ),
        "depthwise": lambda: jc.DepthwiseConv1D(size, dilation_rate=rate, padding_mode=mode, **window),
        "separable": lambda: jc.SeparableConv1D(3, size, dilation_rate=rate, activation="tanh", **window),
        "local": lambda: jc.LocallyConnected1D(3, size, padding_mode=mode, **window),
        "transpose": lambda: jc.Conv1DTranspose(
            3,
            size,
            dilation_rate=rate,
            output_padding=[None, int(rng.integers(stride))][rng.integers(2)],
            strides_with_dilation=True,
            **window,
        ),
        "pool": lambda: [jc.MaxPooling1D, jc.AveragePooling1D][rng.integers(2)](
            size, stride, str(rng.choice(["valid", "same"])), **last
        ),
        "edge": lambda: [jc.Cropping1D, jc.ZeroPadding1D][rng.integers(2)](pads, **last),
        "up": lambda: jc.UpSampling1D(
            size, interpolation=str(rng.choice(["nearest", "bilinear", "bicubic", "lanczos3"])), **last
        ),
    }
    return make[kind](), (2, STEPS, 4) if last["data_format"] != FIRST else (2, 4, STEPS), rng


@pytest.mark.few(3)
@pytest.mark.parametrize("seed", [pytest.param(s, marks=() if s < 8 else pytest.mark.slow) for s in range(200)])
def test_a_padded_sequence_gives_what_it_gives_alone_with_any_options(seed):
    layer, shape, rng = drawn(seed)
    try:
        layer.init(KEY, shape)
    except ValueError:
        return  # too short for these options, whole or not
    length = int(rng.integers(1, STEPS))
    start = 0 if isinstance(layer, BY_STEP) else int(rng.integers(STEPS - length + 1))
    assert_padded_is_alone(layer, shape, length, start, 1e-5)  # a few dozen roundings of float32


# -- what a mask may be, and what becomes of it


def test_the_steps_of_a_sequence_run_from_its_first_to_its_last_real_one():
    start, length = valid_range(jnp.array([[False, True, False, True, False], [False] * 5, [True] * 5]))
    assert (start.tolist(), length.tolist()) == ([1, 0, 0], [3, 0, 5])


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "layer, want",
    [
        (jc.Conv1D(1, 3), "11...."),
        (jc.Conv1D(1, 3, padding="same"), "1111...."),
        (jc.Conv1D(1, 3, padding="causal", dilation_rate=2), "1111...."),
        (jc.Conv1D(1, 3, 2, "same"), "11.."),
        (jc.Conv1D(1, 5), "...."),
        (jc.Conv1DTranspose(1, 3, 2), "111111111........"),
        (jc.MaxPooling1D(2), "11.."),
        (jc.UpSampling1D(2), "11111111........"),
        (jc.ZeroPadding1D((1, 2)), "1111111...."),
        (jc.Cropping1D((1, 2)), "1...."),
    ],
)
def test_the_mask_follows_window_stride_dilation_and_padding(layer, want):
    params, apply_fn = layer.init(KEY, (None, 8, 1))
    mask = apply_fn.forward(params, jnp.ones((1, 8, 1)), mask=jnp.arange(8)[None] < 4)[1].mask
    assert "".join(".1"[int(real)] for real in mask[0]) == want


def test_a_hole_counts_as_zero_and_ends_where_a_window_sees_a_real_step():
    mask, x = jnp.array([[True, True, False, False, True, True]]), jnp.full((1, 6, 1), 5.0)
    sums = jc.Conv1D(1, 2, kernel_initializer="ones")
    params, apply_fn = sums.init(KEY, x)
    y, effects = apply_fn.forward(params, x, mask=mask)
    assert (y.ravel().tolist(), effects.mask[0].tolist()) == ([10, 5, 0, 5, 10], [True, True, False, True, True])
    one = jc.Conv1D(1, 1)  # a dense layer at each step, and its mask
    assert one.apply_fn.forward(one.init(KEY, x)[0], x, mask=mask)[1].mask.tolist() == mask.tolist()
    y, effects = jc.AveragePooling1D(2, 1).apply_fn.forward({}, x, mask=mask)
    assert (y.ravel().tolist(), effects.mask[0].tolist()) == ([5, 5, 0, 5, 5], [True, True, False, True, True])
    y, effects = jc.MaxPooling1D(2).apply_fn.forward({}, -x, mask=mask)
    assert (y.ravel().tolist(), effects.mask[0].tolist()) == ([-5, 0, -5], [True, False, True])


@pytest.mark.parametrize("layer", [jc.Conv1D(2, 3, padding="same"), jc.LayerNormalization(1), jc.AveragePooling1D(2)])
def test_vmap_and_numbers_for_booleans_change_nothing(layer):
    params, apply_fn = layer.init(KEY, (None, 6, 2))
    x, mask = inputs((3, 6, 2)), jnp.arange(6)[None] < jnp.array([[6], [3], [4]])

    def one(x, mask):
        y, effects = apply_fn.forward(params, x[None], mask=mask[None])
        return y[0], effects.mask[0]

    @jax.jit
    def ways(x, mask):
        y, effects = apply_fn.forward(params, x, mask=mask.astype(jnp.int32))
        return (y, effects.mask), jax.vmap(one)(x, mask), apply_fn(params, x, mask)

    (y, out), (each, masks), inference = ways(x, mask)
    np.testing.assert_allclose(each, y, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(masks, out)
    np.testing.assert_allclose(inference, y, rtol=1e-6)


def test_a_masked_model_is_exported_for_any_batch():
    model = jc.Sequential([jc.Masking(), jc.Conv1D(3, 3, 2, "same"), jc.GlobalMaxPooling1D()])
    params, apply_fn = model.init(KEY, (None, 6, 2))
    (batch,) = jax.export.symbolic_shape("b")
    exported = jax.export.export(jax.jit(apply_fn))(params, jax.ShapeDtypeStruct((batch, 6, 2), jnp.float32))
    x = inputs((3, 6, 2)).at[:, 4:].set(0)
    np.testing.assert_allclose(exported.call(params, x), apply_fn(params, x), rtol=1e-6)


def test_batch_statistics_are_those_of_the_real_steps():
    layer = jc.BatchNormalization(1, momentum=0)
    params, apply_fn = layer.init(KEY, (None, 3, 5))
    x, mask = inputs((2, 3, 5)), jnp.arange(5)[None] < jnp.array([[5], [2]])
    y, effects = jax.jit(lambda x: apply_fn.forward(params, x, train=True, mask=mask))(x)
    real = np.concatenate([np.float64(x)[0].T, np.float64(x)[1, :, :2].T])
    np.testing.assert_allclose(effects.fixed["moving_mean"], real.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(effects.fixed["moving_variance"], real.var(0), rtol=1e-5)
    want = (real[5:] - real.mean(0)) / np.sqrt(real.var(0) + 1e-3)
    np.testing.assert_allclose(np.asarray(y)[1, :, :2].T, want, rtol=1e-4, atol=1e-5)
    none = apply_fn.forward(params, x, train=True, mask=jnp.zeros((2, 5), bool))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(none))


def test_softmax_over_time_is_attention_over_real_steps():
    y = jc.Softmax(1).apply_fn({}, jnp.zeros((2, 4, 1)), jnp.array([[True, True, False, False], [False] * 4]))
    assert y[:, :, 0].tolist() == [[0.5, 0.5, 0, 0], [0, 0, 0, 0]]


def test_softmax_takes_a_mask_over_entries_and_one_over_samples():
    x = jnp.zeros((2, 4))
    entries = jc.Softmax().apply_fn.forward({}, x, mask=[1, 0, 0, 1])
    assert entries[0].tolist() == [[0.5, 0, 0, 0.5]] * 2 and entries[1].mask is None
    assert jc.Softmax().apply_fn.forward({}, x, mask=[True, False])[1].mask.tolist() == [True, False]


def test_masking_masks_the_steps_that_are_the_value_in_all_channels():
    x = jnp.array([[[0.5, 0.5], [0.5, 1.0], [0.5, 0.5]]])
    y, effects = jc.Masking(0.5).apply_fn.forward({}, x)
    assert (y[0].tolist(), effects.mask.tolist()) == ([[0, 0], [0.5, 1], [0, 0]], [[False, True, False]])
    assert jc.Masking().apply_fn.forward({}, x, mask=[[1, 1, 0]])[1].mask.tolist() == [[True, True, False]]
    with pytest.raises(ValueError, match="Masking: mask_value=nan is not valid; give a number"):
        jc.Masking(float("nan"))
    with pytest.raises(ValueError, match=r"input of shape \(3,\) has no channels"):
        jc.Masking().init(KEY, (3,))


def test_an_embedding_masks_the_id_zero_and_looks_up_no_id_that_is_masked():
    layer = jc.Embedding(3, 2, mask_zero=True)
    params, apply_fn = layer.init(KEY, (None, 3))
    assert apply_fn.forward(params, jnp.array([[1, 0, 2]]))[1].mask.tolist() == [[True, False, True]]
    y, effects = apply_fn.forward(params, jnp.array([[1, 0, 99]]), mask=[[True, True, False]])
    assert effects.mask.tolist() == [[True, False, False]] and bool(jnp.isfinite(y).all())


@pytest.mark.parametrize(
    "layer", [jc.Flatten(), jc.Reshape((2, -1)), jc.Permute((2, 1)), jc.Sequential([jc.Flatten(name="flat")])]
)
def test_a_mask_ends_with_a_warning_where_steps_end(layer):
    with pytest.warns(UserWarning, match=r"(Flatten|Reshape|Permute|flat): the mask ends here"):
        _, effects = layer.apply_fn.forward({}, jnp.ones((1, 4, 2)), mask=jnp.ones((1, 4), bool))
    assert effects.mask is None


def test_pooling_uses_a_mask_up_in_silence_and_repeating_gives_it_steps():
    for pooling in (jc.GlobalAveragePooling1D(), jc.GlobalMaxPooling1D(data_format="channels_last", keepdims=True)):
        y, effects = pooling.apply_fn.forward({}, jnp.full((2, 3, 1), -2.0), mask=[[1, 0, 0], [0, 0, 0]])
        assert (y.ravel().tolist(), effects.mask) == ([-2, 0], None)
    assert jc.RepeatVector(2).apply_fn.forward({}, jnp.ones((2, 3)), mask=[1, 0])[1].mask.tolist() == [[1, 1], [0, 0]]


# -- several inputs


def test_merges_pass_masks_on_as_keras_does():
    x, one, other = jnp.ones((1, 3, 2)), jnp.array([[True, False, False]]), jnp.array([[False, True, False]])

    def mask_of(layer, masks, inputs=(x, x)):
        mask = layer.apply_fn.forward({}, list(inputs), mask=masks)[1].mask
        return None if mask is None else mask[0].tolist()

    assert mask_of(jc.Add(), [one, other]) == [True, True, False]
    assert mask_of(jc.Add(), [one, None]) is mask_of(jc.Add(), [None, None]) is mask_of(jc.Add(), None) is None
    assert mask_of(jc.Concatenate(), [one, other]) == [True, True, False]
    assert mask_of(jc.Concatenate(1), [one, None]) == [True, False, False, True, True, True]
    assert mask_of(jc.Dot(2), [one, other]) is None
    # what is the same at all steps has no say about them: Keras would drop the mask here
    assert mask_of(jc.Multiply(), [one, None], (x, jnp.ones((1, 1, 2)))) == [True, False, False]
    assert mask_of(jc.Add(), [None, one], (jnp.ones((1, 2)), x)) == [True, False, False]


def test_a_masked_step_leaves_products_and_extremes_to_the_other_input():
    x, y, mask = jnp.array([[[2.0], [3.0]]]), jnp.array([[[5.0], [7.0]]]), jnp.array([[True, False]])
    for layer, want in [(jc.Multiply(), [10, 7]), (jc.Maximum(), [5, 7]), (jc.Minimum(), [2, 7])]:
        assert layer.apply_fn.forward({}, [x, y], mask=[mask, None])[0].ravel().tolist() == want


# -- errors


@pytest.mark.parametrize(
    "layer, shape, mask, error, message",
    [
        (jc.Conv1D(1, 2), (2, 7, 4), np.ones((2, 6)), ValueError,
         r"Conv1D: mask of shape \(2, 6\) does not fit input of shape \(2, 7, 4\); valid shapes: \(2, 7\), True"),
        (jc.Conv1D(1, 2, name="c"), (2, 7, 4), np.ones(2), ValueError, r"c: mask of shape \(2,\).*shapes: \(2, 7\)"),
        (jc.Conv1D(1, 2, data_format=FIRST), (2, 4, 7), np.ones((2, 4)), ValueError, r"valid shapes: \(2, 7\)"),
        (jc.Dense(1), (2, 7, 4), np.ones((2, 5)), ValueError, r"valid shapes: \(2, 4\) or \(2, 7\)"),
        (jc.Dense(1), (2, 7, 4), "mask", TypeError, "Dense: the mask is not an array of booleans"),
        (jc.Dense(1), (2, 7, 4), np.ones((2, 7)) * 1j, TypeError, "not an array of booleans: its type is complex"),
        (jc.Softmax(), (2, 7, 4), np.ones((1, 2, 7, 4)), ValueError, "Softmax: mask of shape .* has more axes than"),
        (jc.Softmax(), (2, 7, 4), np.ones((2, 5)), ValueError, r"Softmax: mask of shape \(2, 5\) does not fit"),
        (jc.BatchNormalization(), (2, 7, 4), np.ones((2, 5)), ValueError, r"mask of shape \(2, 5\) does not fit"),
        (jc.Add(), [(2, 7, 4)] * 2, np.ones((2, 7)), TypeError, "takes a list of masks, one per input"),
        (jc.Add(), [(2, 7, 4)] * 2, [None], ValueError, "got 1 masks for 2 inputs; give one for each, or None"),
        (jc.Add(), [(2, 7, 4)] * 2, [None, np.ones((2, 3))], ValueError, r"Add: input 1: mask of shape \(2, 3\)"),
        (jc.Sequential([jc.Conv1D(1, 2)]), (2, 7, 4), np.ones((2, 6)), ValueError,
         r"conv1d, given shape \(2, 7, 4\): Conv1D: mask of shape \(2, 6\) does not fit"),
    ],
)  # fmt: skip
def test_a_mask_that_does_not_fit_raises(layer, shape, mask, error, message):
    params, apply_fn = layer.init(KEY, shape)
    with pytest.raises(error, match=message):
        apply_fn(params, inputs(shape), mask)
