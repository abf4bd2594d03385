"""Optimized models: equal outputs, without layers for training, and with scales folded where this is exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.serving import optimize
from tests.support.catalogue import CASES, inputs, randomised

KEY = jax.random.key(0)


def values(tree):
    return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)]


def check(layer, shape, names=None, seed=0):
    """Optimize a layer with random weights, compare its outputs, and give it and its params."""
    shapes = jax.eval_shape(lambda: layer.init(KEY, shape)[0])
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(0.3, 1.2, leaf.shape), leaf.dtype), shapes)
    less, own = optimize(layer, params)
    x = inputs(shape, seed + 1)
    want, got = layer.apply_fn(params, x), less.apply_fn(own, x)
    assert jax.tree.map(lambda y: (y.shape, y.dtype), got) == jax.tree.map(lambda y: (y.shape, y.dtype), want)
    for a, b in zip(values(got), values(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * max(1, np.abs(b).max(initial=0)))  # the promise
    expected = jax.eval_shape(lambda: less.init(KEY, shape)[0])
    assert jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, expected)
    if names is not None:
        assert less.names == names
    return less, own


@pytest.mark.few(3)
@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.layer.children])
def test_every_container_and_wrapper_of_the_catalogue_keeps_its_values(name):
    check(*CASES[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_layer_of_the_catalogue_keeps_its_values(name):
    layer, shape = CASES[name]
    params, apply_fn = layer.init(KEY, shape)
    less, own = optimize(layer, randomised(params))
    for a, b in zip(
        values(less.apply_fn(own, inputs(shape))), values(apply_fn(randomised(params), inputs(shape))), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * max(1, np.abs(b).max(initial=0)))


LAST, FIRST = "channels_last", "channels_first"
LINEAR = {
    "conv1d": (jc.Conv1D(6, 3, 2, "causal", groups=2), (2, 8, 4), -1),
    "conv2d first": (jc.Conv2D(6, 3, padding="same", data_format=FIRST, use_bias=False), (2, 4, 5, 6), 1),
    "conv3d": (jc.Conv3D(3, 2), (2, 4, 4, 3, 2), 4),
    "conv1d glu later": (jc.Conv1D(6, 3, activation="linear"), (2, 8, 4), 2),
    "transposed": (jc.Conv1DTranspose(6, 3, 2, "same"), (2, 5, 4), -1),
    "transposed groups": (jc.Conv2DTranspose(6, 3, 2, groups=2), (2, 3, 4, 4), -1),
    "depthwise": (jc.DepthwiseConv2D(3, padding="same", depth_multiplier=2), (2, 5, 4, 3), -1),
    "separable": (jc.SeparableConv1D(5, 3, padding="same", depth_multiplier=2, use_bias=False), (2, 8, 4), -1),
    "dense": (jc.Dense(5, use_bias=False), (2, 7, 4), -1),
}


@pytest.mark.few(2)
@pytest.mark.parametrize("name", LINEAR)
def test_a_batch_normalization_goes_into_the_linear_layer_before_it(name):
    linear, shape, axis = LINEAR[name]
    less, own = check(jc.Sequential([linear, jc.BatchNormalization(axis)]), shape)
    assert [type(layer) for layer in less.layers] == [type(linear)] and less.layers[0].use_bias and len(own) == 1


FED = {
    "conv1d": (jc.Conv1D(6, 3, 2, groups=2, activation="relu"), (2, 8, 4), -1),
    "conv1d reflected": (jc.Conv1D(6, 3, padding="same", padding_mode="reflect"), (2, 8, 4), -1),
    "conv2d first": (jc.Conv2D(6, 3, data_format=FIRST, use_bias=False), (2, 4, 5, 6), 1),
    "conv2d pairs of nothing": (jc.Conv2D(2, 3, padding=((0, 0), (0, 0))), (2, 5, 6, 3), -1),
    "depthwise": (jc.DepthwiseConv2D(3, depth_multiplier=2), (2, 5, 4, 3), -1),
    "separable": (jc.SeparableConv1D(5, 3, depth_multiplier=2, use_bias=False, activation="tanh"), (2, 8, 4), -1),
    "dense": (jc.Dense(5, activation="softmax"), (2, 7, 4), -1),
}


@pytest.mark.few(3)
@pytest.mark.parametrize("name", FED)
def test_a_batch_normalization_goes_into_the_layer_after_it_where_that_is_exact(name):
    layer, shape, axis = FED[name]
    less, _ = check(jc.Sequential([jc.BatchNormalization(axis), layer]), shape)
    assert [type(one) for one in less.layers] == [type(layer)]


@pytest.mark.parametrize(
    "after",
    [
        jc.Conv1D(3, 3, padding="same"),
        jc.Conv1D(3, 3, padding="causal"),
        jc.Conv1D(3, 3, padding=(1, 0)),
        jc.Conv1DTranspose(3, 3),
        jc.LocallyConnected1D(3, 3),
        jc.GlobalAveragePooling1D(),
    ],
    ids=lambda layer: f"{type(layer).__name__}-{getattr(layer, 'padding', '')}",
)
def test_it_stays_where_padding_or_the_layer_after_would_not_be_exact(after):
    less, _ = check(jc.Sequential([jc.BatchNormalization(), after]), (2, 7, 4))
    assert isinstance(less.layers[0], jc.BatchNormalization) and len(less.layers) == 2


def test_a_scale_without_a_shift_passes_zeros_in_the_padding():
    model = jc.Sequential([jc.BatchNormalization(center=False), jc.Conv1D(3, 3, padding="same")])
    params, apply_fn = model.init(KEY, (2, 7, 4))
    params["batch_normalization"]["gamma"] = jnp.arange(1.0, 5)
    less, own = optimize(model, params)
    assert less.names == ("conv1d",)
    x = inputs((2, 7, 4))
    np.testing.assert_allclose(less.apply_fn(own, x), apply_fn(params, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "between", [jc.ReLU(), jc.Activation("tanh"), jc.MaxPooling1D(1), jc.Conv1D(4, 1, activation="relu")]
)
def test_nothing_is_folded_past_an_activation(between):
    model = jc.Sequential([jc.Conv1D(4, 1), between, jc.BatchNormalization(), jc.MaxPooling1D(2)])
    less, _ = check(model, (2, 6, 3))
    assert [type(layer) for layer in less.layers] == [jc.Conv1D, type(between), jc.BatchNormalization, jc.MaxPooling1D]


def test_another_axis_than_the_channels_is_not_folded():
    check(jc.Sequential([jc.Conv1D(4, 1), jc.BatchNormalization(1)]), (2, 6, 3), ("conv1d", "batch_normalization"))
    check(jc.Sequential([jc.Dense(4), jc.BatchNormalization(1)]), (2, 6, 3), ("dense", "batch_normalization"))


def test_what_does_nothing_at_inference_goes():
    idle = [
        jc.Dropout(0.5),
        jc.SpatialDropout1D(0.5),
        jc.AlphaDropout(0.5),
        jc.GaussianNoise(1.0),
        jc.GaussianDropout(0.5),
        jc.ActivityRegularization(0.1),
        jc.Identity(),
        jc.Activation("linear"),
    ]
    _, own = check(jc.Sequential([*idle, jc.Conv1D(2, 1), *idle]), (2, 6, 3), ("conv1d",))
    assert list(own) == ["conv1d"]
    check(jc.Sequential(idle), (2, 6, 3))


def test_a_chain_of_normalizations_with_dropout_between_folds_whole():
    model = jc.Sequential(
        [
            jc.Conv1D(4, 3),
            jc.Dropout(0.5),
            jc.BatchNormalization(),
            jc.BatchNormalization(renorm=True),
            jc.Activation("relu"),
            jc.Conv1D(3, 1, use_bias=False),
        ]
    )
    check(model, (2, 6, 3), ("conv1d", "activation", "conv1d_1"))


def test_params_keep_their_names_and_types():
    model = jc.Sequential([jc.Conv1D(4, 3), jc.BatchNormalization(), jc.Conv1D(4, 3), jc.BatchNormalization()])
    _, own = check(model, (2, 9, 3), ("conv1d", "conv1d_1"))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(own))


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "float16", "bfloat16"])
def test_half_precision_is_left_alone(dtype):
    model = jc.Sequential([jc.Conv1D(4, 3), jc.BatchNormalization()], dtype=dtype)
    params, _ = model.init(KEY, (2, 9, 3))
    assert optimize(model, params)[0].names == ("conv1d", "batch_normalization")


def test_a_layer_that_rounds_stays_though_it_does_nothing_else():
    model = jc.Sequential([jc.Conv1D(4, 3), jc.Dropout(0.5, dtype="bfloat16"), jc.Conv1D(4, 3)])
    check(model, (2, 9, 3), ("conv1d", "dropout", "conv1d_1"))
    check(jc.Sequential([jc.Dropout(0.5), jc.Conv1D(4, 3, dtype="float16")]), (2, 9, 3), ("dropout", "conv1d"))


def test_graphs_fold_where_a_value_goes_one_way_alone():
    x = jc.Input((8, 3))
    h = jc.BatchNormalization(name="first")(jc.Conv1D(4, 1, name="a")(x))
    both = jc.Conv1D(4, 1, name="b")(h)
    kept = jc.BatchNormalization(name="kept")(both)
    y = jc.Add()([jc.Dropout(0.5)(kept), both, jc.Conv1D(4, 1, name="c")(h)])
    less, _ = check(jc.Model(x, [y, h]), (2, 8, 3))
    assert set(less.names) == {"a", "b", "c", "kept", "add"}


def test_a_value_that_is_an_output_stays():
    x = jc.Input((8, 3))
    h = jc.Conv1D(4, 1)(x)
    less, _ = check(jc.Model(x, [h, jc.BatchNormalization()(h)]), (2, 8, 3))
    assert less.names == ("conv1d", "batch_normalization")


def test_shared_layers_are_left_alone():
    x, y = jc.Input((8, 3)), jc.Input((8, 3))
    conv, norm = jc.Conv1D(3, 1), jc.BatchNormalization()
    model = jc.Model([x, y], [norm(conv(x)), conv(y)])
    less, _ = check(model, [(2, 8, 3), (2, 8, 3)])
    assert set(less.names) == {"conv1d", "batch_normalization"}
    again = jc.Model(x, norm(jc.Conv1D(3, 1)(norm(jc.Conv1D(3, 1)(x)))))
    assert len(check(again, (2, 8, 3))[0].names) == 3


def test_containers_and_wrappers_inside_are_optimized_each_for_itself():
    inside = jc.Sequential([jc.Conv1D(4, 1), jc.BatchNormalization(), jc.Dropout(0.1)], name="block")
    model = jc.Sequential(
        [
            inside,
            jc.Residual([jc.Conv1D(4, 1), jc.BatchNormalization()]),
            jc.Parallel([[jc.Conv1D(2, 1), jc.BatchNormalization()], jc.Dropout(0.5)]),
            jc.SpectralNormalization(jc.Conv1D(4, 1), name="spectral"),
            jc.BatchNormalization(),
        ]
    )
    less, own = check(model, (2, 6, 3), ("block", "residual", "parallel", "spectral"))
    assert isinstance(less.layers[3], jc.Conv1D)
    assert [len(own[name]) for name in ("block", "residual", "parallel")] == [1, 1, 1]


def test_weight_normalization_gives_way_to_the_layer_with_its_kernel():
    less, own = check(jc.WeightNormalization(jc.Conv1D(4, 3), name="normed"), (2, 6, 3))
    assert less == jc.Conv1D(4, 3, name="normed") and set(own) == {"kernel", "bias"}


def random_model(rng):
    """Draw a chain of layers, branching at random into a graph of them."""

    def draw(x):
        width = int(rng.integers(1, 5))
        layer = [
            lambda: jc.Conv1D(width, int(rng.integers(1, 3)), padding=["valid", "same"][rng.integers(2)]),
            lambda: jc.Conv1D(width, 1, activation=[None, "tanh"][rng.integers(2)], use_bias=bool(rng.integers(2))),
            lambda: jc.DepthwiseConv1D(2, depth_multiplier=int(rng.integers(1, 3))),
            lambda: jc.SeparableConv1D(width, 2),
            lambda: jc.Conv1DTranspose(width, 2),
            lambda: jc.Dense(width),
            lambda: jc.Dropout(0.5),
            lambda: jc.ReLU(),
            *[lambda: jc.BatchNormalization(center=bool(rng.integers(4)))] * 5,
        ][rng.integers(13)]()
        return layer(x)

    x = y = jc.Input((12, 3))
    kept = []
    for _ in range(int(rng.integers(2, 9))):
        y = draw(y)
        if rng.integers(4) == 0:
            kept.append(y)
    return jc.Model(x, [y, *kept])


@pytest.mark.few(2)
@pytest.mark.parametrize("seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 150))])
def test_random_graphs_keep_their_values(seed):
    check(random_model(np.random.default_rng(seed)), (2, 12, 3), seed=seed)


def test_a_container_whose_graph_follows_from_its_options_refuses_another():
    for layer in (jc.Parallel([jc.Dense(2), jc.Dense(3)]), jc.Residual([jc.Dense(4)]), jc.Sequential([jc.Dense(2)])):
        other = layer.graph._replace(outputs=(0,))
        with pytest.raises(ValueError, match=f"{type(layer).__name__}: its options determine its graph"):
            layer.with_graph(other)
