"""Conv1D, Conv2D, Conv3D as layers: every option's forms and errors, values by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc

RAMP = jnp.arange(1.0, 7).reshape(1, 6, 1)


@pytest.mark.few(3)
@pytest.mark.parametrize(
    "options, want",
    [
        ((2, 1, "same"), [3, 5, 7, 9, 11, 6]),
        ((3, 2, "same"), [6, 12, 11]),
        ((3, 2, "causal"), [1, 6, 12]),
        ((3, 1, "causal"), [1, 3, 6, 9, 12, 15]),
        ((3, 1, "valid"), [6, 9, 12, 15]),
        ((2, 3, "valid"), [3, 9]),
        ((2, 1, (1, 0)), [1, 3, 5, 7, 9, 11]),
    ],
)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_convolving_one_to_six_with_ones(key, options, want, data_format):
    first = data_format == "channels_first"
    x = RAMP.reshape(1, 1, 6) if first else RAMP
    layer = jc.Conv1D(1, *options, data_format, kernel_initializer="ones")
    params, apply_fn = layer.init(key, x)
    np.testing.assert_array_equal(apply_fn(params, x).ravel(), want)
    assert layer.output_shape(x) == ((1, 1, len(want)) if first else (1, len(want), 1))


@pytest.mark.few(2)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("strides, rate", [(1, 1), (1, 3), (2, 1), (3, 1)])
def test_causal_padding_sees_no_future(key, data_format, strides, rate):
    shape = (1, 9, 2) if data_format == "channels_last" else (1, 2, 9)
    layer = jc.Conv1D(2, 3, strides, "causal", data_format, rate)
    params, apply_fn = layer.init(key, shape)
    channels = -1 if data_format == "channels_last" else 1
    jacobian = jax.jacobian(lambda x: apply_fn(params, x).sum(channels)[0])(jnp.ones(shape))[:, 0]  # (out, *sample)
    seen = jnp.abs(jacobian).sum(channels) != 0
    for t, row in enumerate(seen):
        taps = {strides * t - rate * j for j in range(3)}
        assert set(np.flatnonzero(row)) == {i for i in taps if i >= 0}


def test_bias_is_added_before_the_activation_and_can_be_left_out(key):
    params = {"kernel": jnp.ones((1, 1, 2)), "bias": jnp.array([-3.0, 1.0])}
    y = jc.Conv1D(2, 1, activation="relu").apply_fn(params, RAMP)
    np.testing.assert_array_equal(y[0], [[0, 2], [0, 3], [0, 4], [1, 5], [2, 6], [3, 7]])
    bare, apply_fn = jc.Conv1D(2, 1, use_bias=False).init(key, RAMP)
    assert list(bare) == ["kernel"]
    np.testing.assert_array_equal(apply_fn({"kernel": params["kernel"]}, RAMP)[0, :, 1], RAMP[0, :, 0])


@pytest.mark.few(2)
@pytest.mark.parametrize("layer, lengths", [(jc.Conv1D, (6,)), (jc.Conv2D, (5, 4)), (jc.Conv3D, (3, 4, 3))])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("activation", ["softmax", "log_softmax", "glu", "sparsemax"])
def test_activations_along_an_axis_run_along_channels_in_both_formats(key, layer, lengths, data_format, activation):
    """Keras takes the last axis always, a spatial one under channels_first."""
    last = data_format == "channels_last"
    shape = (2, *lengths, 3) if last else (2, 3, *lengths)
    made = layer(4, 2, data_format=data_format, activation=activation)
    params, apply_fn = made.init(key, shape)
    y = apply_fn(params, jax.random.normal(key, shape))
    assert y.shape == made.output_shape(shape)
    axis = -1 if last else 1
    assert y.shape[axis] == (2 if activation == "glu" else 4)
    if activation in ("softmax", "sparsemax"):
        np.testing.assert_allclose(y.sum(axis), 1, rtol=1e-6)  # float32


@pytest.mark.parametrize("layer", [jc.Conv1D, jc.Dense])
def test_glu_of_an_odd_number_of_channels_is_refused_when_built(layer):
    with pytest.raises(ValueError, match="activation 'glu' halves the channels, and 5 is odd"):
        layer(5, *([3] if layer is jc.Conv1D else []), activation="glu")


# -- sizes


@pytest.mark.parametrize(
    "size", [3, (3,), [3], {3}, np.array([3]), np.int64(3), np.array(3), (np.int32(3),), iter([3]), range(3, 4)]
)
def test_forms_of_a_size(size):
    """A numpy scalar is beyond Keras, which refuses it."""
    layer = jc.Conv1D(2, size)
    assert layer.kernel_size == (3,) and type(layer.kernel_size[0]) is int


def test_one_size_stands_for_all_axes_and_a_bool_is_an_integer():
    assert jc.Conv3D(2, 3).kernel_size == (3, 3, 3)
    assert jc.Conv2D(2, (True, 2), strides=True).kernel_size == (1, 2)
    assert jc.Conv1D(True, 2).filters == 1


@pytest.mark.parametrize("option", ["kernel_size", "strides", "dilation_rate"])
@pytest.mark.parametrize(
    "size, kind, message",
    [
        (0, ValueError, "=0 is not valid; give .* each at least 1"),
        (-1, ValueError, "=-1 is not valid"),
        (2.0, ValueError, "=2.0 does not consist of integers"),
        ((3.0, 3), ValueError, r"=\(3.0, 3\) does not consist of integers"),
        (None, ValueError, "=None does not consist of integers"),
        ((1, 0), ValueError, r"=\(1, 0\) is not valid; give .* 2 integers, each at least 1"),
        ((1, 2, 3), ValueError, r"=\(1, 2, 3\) is not valid; give .* 2 integers"),
        ((), ValueError, r"=\(\) is not valid"),
        ("3", TypeError, " is the string '3'"),
        (((3, 3),), ValueError, r"=\(\(3, 3\),\) does not consist of integers"),
    ],
)
def test_sizes_that_are_not_valid(option, size, kind, message):
    options = {"kernel_size": 1, option: size}
    with pytest.raises(kind, match=f"Conv2D: {option}{message}"):
        jc.Conv2D(2, **options)


@pytest.mark.parametrize("option", ["filters", "groups"])
@pytest.mark.parametrize(
    "size, kind, message",
    [
        (0, ValueError, "=0 is not positive; the smallest valid value is 1"),
        (-2, ValueError, "=-2 is not positive"),
        (2.0, ValueError, "=2.0 is not an integer"),
        (None, ValueError, "=None is not an integer; give a positive integer"),
        ("4", TypeError, " is the string '4'"),
        ([4], ValueError, r"=\[4\] is not an integer"),
    ],
)
def test_counts_that_are_not_valid(option, size, kind, message):
    with pytest.raises(kind, match=f"Conv1D: {option}{message}"):
        jc.Conv1D(**{"filters": 4, "kernel_size": 3, option: size})


@pytest.mark.parametrize("count", [np.int64(4), np.array(4), 4])
def test_counts_may_be_numpy_integers(count):
    layer = jc.Conv1D(count, 1, groups=count)
    assert layer == jc.Conv1D(4, 1, groups=4)


def test_groups_must_divide_filters_and_channels(key):
    with pytest.raises(ValueError, match="filters=5 do not divide into groups=2; filters must be a multiple of 2"):
        jc.Conv1D(5, 3, groups=2)
    with pytest.raises(ValueError, match=r"\(2, 10, 3\) has 3 channels, .* groups=2; .* a positive multiple of 2"):
        jc.Conv1D(4, 3, groups=2).init(key, (2, 10, 3))


# -- words


@pytest.mark.parametrize(
    "layer, padding, kind, message",
    [
        (jc.Conv1D, "full", ValueError, "unknown padding 'full'; expected causal, same, valid, or explicit pairs"),
        (jc.Conv1D, "sane", ValueError, r"unknown padding 'sane'; did you mean 'same'\?"),
        (jc.Conv1D, "relu", ValueError, "unknown padding 'relu'"),
        (jc.Conv2D, "causal", ValueError, "padding 'causal' exists in one dimension only, this has 2"),
        (jc.Conv3D, "Causal", ValueError, "padding 'causal' exists in one dimension only, this has 3"),
        (jc.Conv1D, None, TypeError, "cannot read padding=None"),
        (jc.Conv1D, 3, TypeError, "cannot read padding=3"),
        (jc.Conv1D, (-1, 2), ValueError, "padding=.*-1, 2.* is not valid"),
        (jc.Conv1D, (1, 2, 3), ValueError, r"padding=\(1, 2, 3\) does not fit 1 spatial"),
        (jc.Conv2D, (1, 1), ValueError, r"padding=\(1, 1\) does not fit 2 spatial"),
        (jc.Conv2D, ((1, 2),), ValueError, r"padding=\(\(1, 2\),\) does not fit 2 spatial"),
        (jc.Conv1D, ("same", "same"), ValueError, r"padding=\('same', 'same'\) does not fit 1 spatial"),
        (jc.Conv1D, (1.0, 2), ValueError, "padding=.*does not consist of integers"),
    ],
)
def test_paddings_that_are_not_valid(layer, padding, kind, message):
    with pytest.raises(kind, match=f"{layer.__name__}: {message}"):
        layer(2, 3, padding=padding)


@pytest.mark.parametrize("padding", [(1, 2), ((1, 2),), [[1, 2]], np.array([1, 2])])
def test_explicit_padding_of_one_axis(padding):
    assert jc.Conv1D(2, 3, padding=padding).padding == ((1, 2),)


@pytest.mark.parametrize("data_format", ["NHWC", b"channels_last", "channels_middle", 1, True])
def test_data_formats_that_are_not_valid(data_format):
    with pytest.raises(ValueError, match=r"Conv2D: unknown data_format .*expected channels_first, channels_last"):
        jc.Conv2D(2, 3, data_format=data_format)


@pytest.mark.parametrize("data_format", ["CHANNELS_FIRST", "Channels_First", "channels_first"])
def test_data_format_has_any_case(data_format):
    assert jc.Conv2D(2, 3, data_format=data_format).data_format == "channels_first"


@pytest.mark.parametrize(
    "layer, shape, words",
    [
        (jc.Conv1D(2, 3), (2, 8), "batch, time, channels"),
        (jc.Conv2D(2, 3, data_format="channels_first"), (2, 8, 3), "batch, channels, rows, columns"),
        (jc.Conv3D(2, 3), (2, 8, 8, 3), "batch, depth, rows, columns, channels"),
        (jc.Conv2D(2, 3), (2, 8, 8, 8, 3), "batch, rows, columns, channels"),
    ],
)
def test_wrong_rank_at_init_and_at_apply(key, layer, shape, words):
    message = rf"has rank {len(shape)}; this layer needs rank {layer.rank + 2}: \({words}\)"
    with pytest.raises(ValueError, match=message):
        layer.init(key, shape)
    params, apply_fn = layer.init(key, (2, *(8,) * (layer.rank + 1)))
    with pytest.raises(ValueError, match=message):
        apply_fn(params, jnp.ones(shape))


@pytest.mark.parametrize("padding, shortest", [("valid", 9), ("same", 1), ("causal", 1), ((3, 1), 5)])
def test_a_too_short_input_raises_with_the_shortest_valid_length(key, padding, shortest):
    layer = jc.Conv1D(2, 5, padding=padding, dilation_rate=2)
    params, apply_fn = layer.init(key, (None, shortest, 3))
    for length in {0, shortest - 1}:
        for call in (
            lambda n=length: layer.init(key, (None, n, 3)),
            lambda n=length: apply_fn(params, jnp.ones((1, n, 3))),
        ):
            with pytest.raises(ValueError, match=f"size 5, dilation 2.*shortest valid input is {shortest}$"):
                call()


def test_the_axis_that_is_too_short_is_named(key):
    with pytest.raises(ValueError, match="axis 2: input of length 2 is shorter"):
        jc.Conv2D(2, 3).init(key, (None, 8, 2, 1))
