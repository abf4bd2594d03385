"""Keras 3 on JAX as the oracle: the same weights and the same input give the same output, gradients and configs."""

import inspect
import json
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from catalogue import CASES, inputs, randomised
from keras_oracle import keras, keras_rules

import jaxconv as jc
from jaxconv.layers.layer import layers, merge

pytestmark = [
    pytest.mark.filterwarnings("ignore:Do not pass an `input_shape`:UserWarning"),
]
KEY = jax.random.key(0)
# Keras has no explicit padding, and these options mean something else there
OURS_ALONE = {"conv1d_pads", "conv2d_pads", "conv2d_orthogonal"}
OURS_ALONE |= {"up_sampling1d_line", "model_of_a_residual"}
OURS_ALONE |= {name for name in CASES if name.startswith(("residual", "parallel"))}
OURS_ALONE |= {"spatial_dropout1d_first", "rescaling_first", "embedding_constrained"}
OURS_ALONE |= {name for name in CASES if name.startswith(("instance_normalization", "weight_normalization"))}
OURS_ALONE |= {"conv1d_reflected", "conv1d_strided_dilated", "conv2d_causal_rows", "conv1d_transpose_groups"}
OURS_ALONE |= {"depthwise_conv1d_causal", "depthwise_conv3d", "separable_conv3d"}
OURS_ALONE |= {name for name in CASES if name.startswith("locally_connected")}
KERAS_NAMES = ("kernel", "gamma", "beta", "moving_mean", "moving_variance", "bias")


def theirs(layer, shape):
    """Build Keras's layer from our config."""
    other = keras.layers.deserialize(json.loads(json.dumps(layers.serialize(layer))))
    with keras_rules():
        other.build((None, *shape[1:]))
    return other


def keras_values(params, layer):
    """List our params in the order of Keras's (trainable, non-trainable) variables."""

    def walk(layer, params):
        own = [(leaf, layer.trainable and leaf not in layer.statistics, params[leaf]) for leaf in layer.leaves]
        return own + [entry for name, child in layer.children.items() for entry in walk(child, params.get(name, {}))]

    entries = walk(layer, params)
    return [v for _, trained, v in entries if trained], [v for _, trained, v in entries if not trained]


def assert_close(got, want, what, rtol=1e-5):
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape, what
    # relative to the largest entry: sums of many float32 terms cancel in single ones
    np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol * max(np.abs(want).max(initial=0), 1e-2), err_msg=what)


def compare(layer, shape, seed=0, train=False):
    """Compare output, statistics, penalties and gradients (weights and input) with Keras's."""
    params, apply_fn = layer.init(KEY, shape)
    params, x = randomised(params, seed), inputs(shape, seed + 1)
    other = theirs(layer, shape)
    trainable, fixed = apply_fn.split(params)
    mine = keras_values(params, layer)
    assert [v.shape for v in mine[0]] == [tuple(v.shape) for v in other.trainable_variables]
    weight = jax.random.normal(jax.random.key(seed + 2), layer.output_shape(shape))
    flags = {"training": train} if "training" in inspect.signature(other.call).parameters else {}

    def ours(trainable, x):
        y, effects = apply_fn.forward(merge(trainable, fixed), x, train=train)
        return jnp.sum(weight * y) + effects.penalty, (y, effects.fixed)

    def keras_loss(trainable, x):
        seeds = [v.value for v in other.non_trainable_variables if "seed" in v.path]
        y, state = other.stateless_call(trainable, [*mine[1], *seeds], x, **flags)
        return jnp.sum(weight * y), (y, state)

    @jax.jit
    def both(trainable, flat, x):
        ours_of = jax.value_and_grad(ours, (0, 1), has_aux=True)(trainable, x)
        with keras_rules():
            return ours_of, jax.value_and_grad(keras_loss, (0, 1), has_aux=True)(flat, x)

    ((_, (y, new)), (grads, x_grad)), ((_, (want, state)), (want_grads, want_x)) = both(trainable, mine[0], x)
    assert_close(y, want, f"output of {layer}")
    assert_close(x_grad, want_x, f"input gradient of {layer}")
    full_grads = merge(grads, jax.tree.map(jnp.zeros_like, fixed))
    for got, wanted in zip(keras_values(full_grads, layer)[0], want_grads, strict=True):
        assert_close(got, wanted, f"weight gradient of {layer}")
    for got, wanted in zip(keras_values(merge(trainable, new), layer)[1], state, strict=False):
        assert_close(got, wanted, f"statistics of {layer}")


ACTIVATIONS = ["linear", "relu", "tanh", "gelu", "elu", "swish", "sigmoid", "softplus", "hard_sigmoid", "leaky_relu"]


def random_convolution(rng):
    """Draw a convolution that Keras has, and an input shape for it."""
    rank = int(rng.integers(1, 4))
    groups = int(rng.integers(1, 4))
    spread = rng.integers(3)  # 0: neither strides nor dilation
    sizes = rng.integers(1, 4, rank)
    strides = tuple(rng.integers(1, 4, rank)) if spread == 1 else 1
    rate = tuple(rng.integers(1, 4, rank)) if spread == 2 else 1
    extent = (sizes - 1) * np.asarray(rate) + 1
    lengths = [int(n) for n in extent + rng.integers(0, 4, rank)]
    channels = groups * int(rng.integers(1, 3))
    data_format = ["channels_last", "channels_first"][rng.integers(2)]
    layer = [jc.Conv1D, jc.Conv2D, jc.Conv3D][rank - 1](
        groups * int(rng.integers(1, 4)),
        tuple(sizes),
        strides,
        ["valid", "same", "causal"][rng.integers(3 if rank == 1 else 2)],
        data_format,
        rate,
        groups,
        ACTIVATIONS[rng.integers(len(ACTIVATIONS))],
        bool(rng.integers(4)),
    )
    inner = (*lengths, channels) if data_format == "channels_last" else (channels, *lengths)
    return layer, (int(rng.integers(1, 4)), *inner)


@pytest.mark.parametrize("seed", range(25))
def test_random_convolutions(seed):
    compare(*random_convolution(np.random.default_rng(seed)), seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(25, 425))
def test_many_random_convolutions(seed):
    compare(*random_convolution(np.random.default_rng(seed)), seed)


def random_relative(rng):
    """Draw a transposed, depthwise or separable convolution that Keras has, and an input shape for it."""
    kind = ["Conv{}DTranspose", "DepthwiseConv{}D", "SeparableConv{}D"][rng.integers(3)]
    rank = int(rng.integers(1, 4 if "Transpose" in kind else 3))
    sizes = tuple(int(n) for n in rng.integers(1, 4, rank))
    strides, rate = (1,) * rank, (1,) * rank
    if rng.integers(2):
        # one stride for all axes: Keras hands a depthwise convolution to XLA, which takes any, but documents one
        strides = (int(rng.integers(1, 4)),) * rank
    else:
        rate = tuple(int(n) for n in rng.integers(1, 4, rank))
    data_format = ["channels_last", "channels_first"][rng.integers(2)]
    options = {
        "kernel_size": sizes,
        "strides": strides,
        "padding": ["valid", "same"][rng.integers(2)],
        "data_format": data_format,
        "dilation_rate": rate,
        "activation": ACTIVATIONS[rng.integers(len(ACTIVATIONS))],
        "use_bias": bool(rng.integers(4)),
    }
    if "Depthwise" not in kind:
        options["filters"] = int(rng.integers(1, 4))
    if "Transpose" not in kind:
        options["depth_multiplier"] = int(rng.integers(1, 3))
    elif rng.integers(2):
        options["output_padding"] = tuple(int(rng.integers(s)) for s in strides)
    extent = (np.asarray(sizes) - 1) * np.asarray(rate) + 1
    lengths = [int(n) for n in extent + rng.integers(0, 4, rank)]
    inner = (*lengths, 2) if data_format == "channels_last" else (2, *lengths)
    return getattr(jc, kind.format(rank))(**options), (2, *inner)


@pytest.mark.parametrize("seed", range(20))
def test_random_relatives_of_the_convolution(seed):
    compare(*random_relative(np.random.default_rng(seed)), seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20, 320))
def test_many_random_relatives_of_the_convolution(seed):
    compare(*random_relative(np.random.default_rng(seed)), seed)


def random_pooling(rng, kind, rank):
    data_format = ["channels_last", "channels_first"][rng.integers(2)]
    lengths = [int(n) for n in rng.integers(3, 7, rank)]
    shape = (2, *lengths, 3) if data_format == "channels_last" else (2, 3, *lengths)
    cls = getattr(jc, f"{kind}Pooling{rank}D")
    if kind.startswith("Global"):
        return cls(data_format, keepdims=bool(rng.integers(2))), shape
    strides = None if rng.integers(2) else tuple(int(n) for n in rng.integers(1, 4, rank))
    size = tuple(int(n) for n in rng.integers(1, 4, rank))
    return cls(size, strides, ["valid", "same"][rng.integers(2)], data_format), shape


POOLINGS = [(kind, rank) for kind in ("Max", "Average", "GlobalMax", "GlobalAverage") for rank in (1, 2, 3)]


@pytest.mark.parametrize("kind, rank", POOLINGS)
def test_pooling(kind, rank):
    for seed in range(1 if kind.startswith("Global") else 3):
        compare(*random_pooling(np.random.default_rng(100 * rank + seed), kind, rank), seed)


@pytest.mark.slow
@pytest.mark.parametrize("kind, rank", POOLINGS)
def test_many_poolings(kind, rank):
    for seed in range(30):
        compare(*random_pooling(np.random.default_rng(1000 * rank + seed), kind, rank), seed)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(
    "layer, shape",
    [
        (jc.BatchNormalization(), (5, 4)),
        (jc.BatchNormalization(1, momentum=0.7, epsilon=0.1), (3, 4, 5)),
        (jc.BatchNormalization(-1, center=False), (2, 3, 4, 2)),
        (jc.BatchNormalization(scale=False), (2, 3, 2)),
        (jc.BatchNormalization(trainable=False), (2, 3, 2)),
    ],
)
def test_batch_normalization(layer, shape, train):
    compare(layer, shape, train=train)


@pytest.mark.parametrize(
    "layer, shape",
    [
        (jc.Dense(3, "tanh"), (2, 4)),
        (jc.Dense(3, use_bias=False), (2, 5, 4)),
        (jc.Flatten(), (2, 3, 4, 2)),
        (jc.Flatten("channels_first"), (2, 3, 4, 2)),
        (jc.Flatten(), (3,)),
        (jc.Activation("mish"), (2, 4)),
        (jc.Activation("softmax"), (2, 3, 4)),
        (jc.Dropout(0.5), (2, 4)),
        (jc.Cropping1D((1, 2)), (2, 6, 3)),
        (jc.Cropping2D((1, 2), "channels_first"), (2, 3, 4, 6)),
        (jc.Cropping3D(((1, 0), (0, 2), (1, 1))), (2, 3, 4, 5, 2)),
        (jc.Cropping2D(), (2, 3, 4, 6)),
    ],
)
def test_other_layers(layer, shape):
    compare(layer, shape)


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


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("layer, shape", STACKS, ids=["sequence", "image"])
def test_stacks(layer, shape, train):
    compare(layer, shape, train=train)


def test_activity_and_weight_penalties():
    layer = jc.Conv1D(
        3, 2, kernel_regularizer="l2", bias_regularizer="l1", activity_regularizer=jc.regularizers.L2(0.3)
    )
    params, apply_fn = layer.init(KEY, (4, 6, 2))
    params, x = randomised(params), inputs((4, 6, 2))
    other = theirs(layer, x.shape)
    for variable, value in zip(other.variables, keras_values(params, layer)[0], strict=True):
        variable.assign(value)
    with keras_rules():
        other(x)
        want = [float(loss) for loss in other.losses]  # activity, then kernel, then bias
    assert_close(apply_fn.forward(params, x)[1].penalty, want[0], "activity penalty")
    assert_close(apply_fn.penalty(params), sum(want[1:]), "weight penalty")


# -- configs


@pytest.mark.parametrize("name", [name for name in CASES if name not in OURS_ALONE])
def test_our_config_loads_in_keras_and_comes_back(name):
    layer, _ = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = keras.layers.deserialize(json.loads(json.dumps(layers.serialize(layer))))
    again = layers.get(json.loads(json.dumps(keras.layers.serialize(other))))
    assert type(again) is type(layer)
    assert without_names(again) == without_names(layer)


def without_names(layer):
    """Give the config without what Keras fills in, drops from a container, or rounds (it keeps l1 in float32)."""

    def strip(config):
        if isinstance(config, list):
            return [strip(v) for v in config]
        if not isinstance(config, dict):
            return config
        dropped = {"name", "trainable", "dtype"} if "layers" in config else {"name"}
        kept = {k: strip(v) for k, v in config.items() if k not in dropped}
        if "dtype" in kept:
            kept["dtype"] = kept["dtype"] or "float32"
        if "l1" in kept:
            kept["l1"] = float(np.float32(kept["l1"]))
        return kept

    return strip(json.loads(json.dumps(layer.get_config())))


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


def test_what_we_cannot_do_in_a_keras_config_is_refused_by_name():
    config = keras.layers.serialize(keras.layers.Dense(2, lora_rank=4))
    with pytest.raises(ValueError, match="Dense: unknown argument 'lora_rank' = 4"):
        layers.get(config)


# -- signatures


# the required arguments that are no size, given the module that the layers are in
ARGUMENTS = {
    "dims": lambda _: (2, 1),
    "target_shape": lambda _: (2, -1),
    "rate": lambda _: 0.5,
    "stddev": lambda _: 0.5,
    "layer": lambda module: module.Dense(2),
}
LAYERS = sorted({layers[name].__name__ for name in layers.names()})
# Keras's arguments that do not exist here, and those that are keyword-only here
ABSENT = {"self", "kwargs", "lora_rank", "lora_alpha", "quantization_config", "weights"}
ABSENT |= {"name", "trainable", "dtype"}
OWN = {"InstanceNormalization", "WeightNormalization", "Model", "Parallel", "Residual"}  # layers that Keras has not
OWN |= {"DepthwiseConv3D", "SeparableConv3D", *(f"LocallyConnected{rank}D" for rank in (1, 2, 3))}


@pytest.mark.parametrize("name", [name for name in LAYERS if name not in OWN])
def test_positional_order_and_defaults_are_keras_s(name):
    cls = getattr(keras.layers, name, None) or getattr(keras, name)
    want = [p for p in inspect.signature(cls.__init__).parameters.values() if p.name not in ABSENT]
    ours = [p for p in inspect.signature(layers[name]).parameters.values() if p.kind is not p.KEYWORD_ONLY]
    # ours may have more at the end (Cropping1D has a data_format, Activation a regularizer)
    assert [p.name for p in ours][: len(want)] == [p.name for p in want]
    if name not in ("Sequential", "Activation"):
        required = [p.name for p in want if p.default is p.empty]
        made = layers[name](*[ARGUMENTS.get(option, lambda _: 3)(jc) for option in required])
        config = plain_config(
            getattr(keras.layers, name)(*[ARGUMENTS.get(o, lambda _: 3)(keras.layers) for o in required])
        )
        for option, value in without_names(made).items():
            assert option not in config or option in ("dtype", "layer") or value == config[option], option


def plain_config(layer):
    config = json.loads(json.dumps(layer.get_config(), default=keras.saving.serialize_keras_object))
    return {k: v for k, v in config.items() if k != "name"}
