"""Layers compared with Keras 3 on JAX: the same weights and input give the same output, gradients and configs."""

import inspect
import json
import warnings

import pytest

import jaxconv as jc
from jaxconv.contract import layers
from tests.support.catalogue import CASES
from tests.support.keras_oracle import KEY, assert_config_round_trip, compare, keras, without_names

pytestmark = [
    pytest.mark.filterwarnings("ignore:Do not pass an `input_shape`:UserWarning"),
]
# Keras has no explicit padding, and these options mean something else there
OURS_ALONE = {"conv1d_pads", "conv2d_pads", "conv2d_orthogonal"}
OURS_ALONE |= {"up_sampling1d_line", "model_of_a_residual"}
OURS_ALONE |= {name for name in CASES if name.startswith(("residual", "parallel"))}
OURS_ALONE |= {"spatial_dropout1d_first", "rescaling_first", "embedding_constrained"}
OURS_ALONE |= {name for name in CASES if name.startswith(("instance_normalization", "weight_normalization"))}
OURS_ALONE |= {"conv1d_reflected", "conv1d_strided_dilated", "conv2d_causal_rows", "conv1d_transpose_groups"}
OURS_ALONE |= {"depthwise_conv1d_causal", "depthwise_conv3d", "separable_conv3d"}
OURS_ALONE |= {name for name in CASES if name.startswith("locally_connected")}
OURS_ALONE |= {"divide", "reciprocal", "get_item", "get_item_of_axes"}  # operations in Keras
OURS_ALONE |= {"multi_head_attention_causal"}  # an argument of the call in Keras


STACKS = [
    (
        jc.Sequential(
            [
                jc.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="relu"),
                jc.BatchNormalization(),
                jc.MaxPooling1D(2),
                jc.Conv1D(3, 2, trainable=False),
                jc.GlobalAveragePooling1D(),
                jc.Dense(2, "softmax"),
            ]
        ),
        (3, 9, 2),
    ),
    (
        jc.Sequential(
            [
                jc.Sequential([jc.Conv2D(4, 3, 2, "same", "channels_first", use_bias=False), jc.BatchNormalization(1)]),
                jc.Activation("elu"),
                jc.AveragePooling2D(2, data_format="channels_first"),
                jc.Flatten("channels_first"),
                jc.Dense(3),
            ]
        ),
        (2, 3, 7, 8),
    ),
]


@pytest.mark.few(2)
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("layer, shape", STACKS, ids=["sequence", "image"])
def test_stacks(layer, shape, train):
    compare(layer, shape, train=train)


# -- configs


@pytest.mark.parametrize("name", [name for name in CASES if name not in OURS_ALONE])
def test_our_config_loads_in_keras_and_comes_back(name):
    layer, _ = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = keras.layers.deserialize(json.loads(json.dumps(layers.serialize(layer))))
    assert_config_round_trip(layer, other)


def test_built_keras_model_loads_with_its_input_shape():
    model = keras.Sequential(
        [
            keras.layers.Input((10, 3)),
            keras.layers.Conv1D(4, 3, name="first"),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )
    ours = layers.get(json.loads(json.dumps(keras.saving.serialize_keras_object(model))))
    assert ours.input_shape == (10, 3)
    params, _ = ours.init(KEY)
    assert params["first"]["kernel"].shape == (3, 3, 4)
    assert params[ours.names[-1]]["kernel"].shape == (32, 2)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16", "mixed_float16", "float32"])
def test_dtype_policies_of_keras_are_read(policy):
    other = keras.layers.Conv1D(3, 3, dtype=policy)
    assert layers.get(keras.layers.serialize(other)).dtype == policy
    assert jc.Conv1D(3, 3, dtype=keras.dtype_policies.DTypePolicy(policy)).dtype == policy


def test_unsupported_options_in_a_keras_config_raise_and_are_named():
    config = keras.layers.serialize(keras.layers.Dense(2, lora_rank=4))
    with pytest.raises(ValueError, match="Dense: unknown argument 'lora_rank' = 4"):
        layers.get(config)


# -- signatures


# the required arguments that are not sizes, given the module that the layers are in
ARGUMENTS = {
    "dims": lambda _: (2, 1),
    "target_shape": lambda _: (2, -1),
    "rate": lambda _: 0.5,
    "stddev": lambda _: 0.5,
    "layer": lambda module: module.LSTM(2),
}
LAYERS = sorted({layers[name].__name__ for name in layers.names()})
# Keras's arguments that do not exist here, and those that are keyword-only here
ABSENT = {"self", "kwargs", "lora_rank", "lora_alpha", "quantization_config", "weights"}
ABSENT |= {"name", "trainable", "dtype"}
RENAMED = {"output_shape": "output_size"}  # which each layer has as a method
OWN = {"InstanceNormalization", "WeightNormalization", "Model", "Parallel", "Residual"}  # layers that Keras has not
OWN |= {
    "Divide",
    "GetItem",
    "Reciprocal",
    "DepthwiseConv3D",
    "SeparableConv3D",
    *(f"LocallyConnected{rank}D" for rank in (1, 2, 3)),
}


@pytest.mark.parametrize("name", [name for name in LAYERS if name not in OWN])
def test_positional_order_and_defaults_equal_keras(name):
    cls = getattr(keras.layers, name, None) or getattr(keras, name)
    want = [p for p in inspect.signature(cls.__init__).parameters.values() if p.name not in ABSENT]
    ours = [p for p in inspect.signature(layers[name]).parameters.values() if p.kind is not p.KEYWORD_ONLY]
    # ours may have more at the end (Cropping1D has a data_format, Activation a regularizer)
    assert [p.name for p in ours][: len(want)] == [RENAMED.get(p.name, p.name) for p in want]
    if name not in ("Sequential", "Activation"):
        required = [p.name for p in want if p.default is p.empty]
        made = layers[name](*[ARGUMENTS.get(option, lambda _: 3)(jc) for option in required])
        config = plain_config(
            getattr(keras.layers, name)(*[ARGUMENTS.get(o, lambda _: 3)(keras.layers) for o in required])
        )
        for option, value in without_names(made).items():
            assert option not in config or option in ("dtype", "layer", "backward_layer") or value == config[option], (
                option
            )


def plain_config(layer):
    config = json.loads(json.dumps(layer.get_config(), default=keras.saving.serialize_keras_object))
    return {k: v for k, v in config.items() if k != "name"}
