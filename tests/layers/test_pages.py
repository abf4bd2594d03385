"""The reference pages (TF 2.2 Conv1D, TF 2.3 backend.conv1d, Keras 3 Conv3D): examples, defaults, errors."""

import inspect

import jax
import jax.numpy as jnp
import pytest

import jaxconv as jc
from jaxconv import activations, initializers

PAGE_CONV = {
    "padding": "valid",
    "use_bias": True,
    "kernel_initializer": initializers.get("glorot_uniform"),
    "bias_initializer": initializers.get("zeros"),
    "kernel_regularizer": None,
    "bias_regularizer": None,
    "activity_regularizer": None,
    "kernel_constraint": None,
    "bias_constraint": None,
    "data_format": "channels_last",
    "activation": activations.linear,
    "trainable": True,
    "name": None,
}
ORDER = ["filters", "kernel_size", "strides", "padding", "data_format", "dilation_rate", "groups", "activation"]
ORDER += ["use_bias", "kernel_initializer", "bias_initializer", "kernel_regularizer", "bias_regularizer"]
ORDER += ["activity_regularizer", "kernel_constraint", "bias_constraint"]


def test_conv1d_example(key):
    shape = (4, 10, 128)  # the page gives the batch with input_shape; an explicit shape wins
    x = jax.random.normal(key, shape)
    layer = jc.Conv1D(32, 3, activation="relu", input_shape=shape)
    params, apply_fn = layer.init(key, x)
    y = apply_fn(params, x)
    assert y.shape == (4, 8, 32)
    assert (params["kernel"].shape, params["bias"].shape) == ((3, 128, 32), (32,))
    assert float(y.min()) == 0.0


def test_conv1d_example_without_a_shape_is_told_that_input_shape_is_without_batch(key):
    with pytest.raises(ValueError, match=r"input_shape=\(4, 10, 128\), without batch.*needs rank 3"):
        jc.Conv1D(32, 3, activation="relu", input_shape=(4, 10, 128)).init(key)


@pytest.mark.parametrize("input_shape", [(10, 128), (None, 128)])
def test_input_shape_is_that_of_one_sample(key, input_shape):
    params, _ = jc.Conv1D(32, 3, input_shape=input_shape).init(key)
    assert params["kernel"].shape == (3, 128, 32)


def test_conv3d_example(key):
    x = jax.random.uniform(key, (4, 10, 10, 10, 128))
    params, apply_fn = jc.Conv3D(32, 3, activation="relu").init(key, x)
    assert jax.eval_shape(apply_fn, params, x).shape == (4, 8, 8, 8, 32)


@pytest.mark.parametrize("rank, layer", [(1, jc.Conv1D), (2, jc.Conv2D), (3, jc.Conv3D)])
def test_defaults_and_order_of_arguments(rank, layer):
    made = layer(4, 3)
    for name, value in PAGE_CONV.items():
        assert getattr(made, name) == value, name
    for name in ("strides", "dilation_rate"):
        assert getattr(made, name) == (1,) * rank
    assert made.groups == 1
    positional = [p for p in inspect.signature(layer).parameters.values() if p.kind is not p.KEYWORD_ONLY]
    assert [p.name for p in positional] == ORDER


@pytest.mark.parametrize("name", ["kernel_initializer", "bias_initializer"])
def test_an_initializer_of_none_is_the_documented_default(name):
    assert jc.Conv3D(4, 3, **{name: None}) == jc.Conv3D(4, 3)  # Keras itself draws the bias from glorot_uniform


def test_the_seventh_positional_argument_is_groups_as_in_keras_and_not_the_activation_of_tf_2_2():
    assert jc.Conv1D(4, 3, 1, "valid", "channels_last", 1, 2, "relu").groups == 2
    with pytest.raises(TypeError, match=r"groups is the string 'relu'"):
        jc.Conv1D(4, 3, 1, "valid", "channels_last", 1, "relu")


@pytest.mark.parametrize("layer", [jc.Conv1D, jc.Conv2D, jc.Conv3D])
def test_strides_with_dilation_is_a_value_error(layer):
    with pytest.raises(ValueError, match=r"strides=.*with dilation_rate=.*above 1.*jaxconv\.conv[123]d"):
        layer(4, 3, strides=2, dilation_rate=2)
    layer(4, 3, strides=2)
    layer(4, 3, dilation_rate=2)


def test_strides_with_dilation_is_a_value_error_on_different_axes_too():
    with pytest.raises(ValueError, match="strides"):
        jc.Conv2D(4, 3, strides=(2, 1), dilation_rate=(1, 2))


@pytest.mark.parametrize("padding", ["valid", "VALID", "Same", "sAME", "Causal"])
def test_padding_is_case_insensitive(padding):
    assert jc.Conv1D(1, 1, padding=padding).padding == padding.lower()


def test_one_output_for_each_step_with_same_padding_and_stride_one():
    for kernel_size in range(1, 6):
        assert jc.Conv3D(2, kernel_size, padding="same").output_shape((1, 4, 5, 6, 2)) == (1, 4, 5, 6, 2)


def test_causal_output_does_not_depend_on_later_input(key):
    params, apply_fn = jc.Conv1D(2, 3, padding="causal", dilation_rate=2).init(key, (1, 8, 3))
    jacobian = jax.jacobian(lambda x: apply_fn(params, x[None])[0].sum(-1))(jnp.ones((8, 3))).sum(-1)
    assert jnp.all(jnp.triu(jacobian, 1) == 0)
    assert jnp.all(jnp.diag(jacobian) != 0)


def test_backend_conv1d_signature():
    parameters = inspect.signature(jc.conv1d).parameters
    positional = {n: p.default for n, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD}
    empty = inspect.Parameter.empty
    assert positional == {
        "x": empty, "kernel": empty, "strides": 1, "padding": "valid", "data_format": None, "dilation_rate": 1,
    }  # fmt: skip
    assert list(positional) == ["x", "kernel", "strides", "padding", "data_format", "dilation_rate"]


@pytest.mark.parametrize("data_format", ["NHWC", "channels", "last", b"channels_last", 1])
def test_backend_conv1d_refuses_another_data_format(data_format):
    with pytest.raises(ValueError, match=r"conv1d: unknown data_format .*channels_first, channels_last"):
        jc.conv1d(jnp.ones((1, 5, 2)), jnp.ones((3, 2, 4)), data_format=data_format)


@pytest.mark.parametrize("padding, length", [("same", 6), ("causal", 6), ("valid", 4)])
def test_backend_conv1d_pads(padding, length):
    assert jc.conv1d(jnp.ones((1, 6, 2)), jnp.ones((3, 2, 4)), padding=padding).shape == (1, length, 4)


def test_aliases():
    assert (jc.Convolution1D, jc.Convolution2D, jc.Convolution3D) == (jc.Conv1D, jc.Conv2D, jc.Conv3D)
    assert (jc.MaxPool1D, jc.AvgPool2D) == (jc.MaxPooling1D, jc.AveragePooling2D)
    assert (jc.GlobalMaxPool3D, jc.GlobalAvgPool1D) == (jc.GlobalMaxPooling3D, jc.GlobalAveragePooling1D)


def test_groups_are_convolved_separately_and_concatenated(key):
    x = jax.random.normal(key, (2, 3, 3, 3, 4))
    params, apply_fn = jc.Conv3D(6, 2, groups=2, use_bias=False).init(key, x)
    assert params["kernel"].shape == (2, 2, 2, 2, 6)
    halves = [jc.conv3d(x[..., 2 * g : 2 * g + 2], params["kernel"][..., 3 * g : 3 * g + 3]) for g in range(2)]
    assert jnp.allclose(apply_fn(params, x), jnp.concatenate(halves, -1), atol=1e-5)  # float32, 16 terms of order 1
