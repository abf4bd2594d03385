"""Attribution: captum's numbers, exact integrals, completeness, and networks of other libraries."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.tree_util import Partial

import jaxconv
from jaxconv.inspect import attribute, class_activation
from jaxconv.inspect.attribution import METHODS
from tests.support.messages import facts

DIFFERENCES = ("integrated", "deeplift")
KEY = jax.random.key(0)


def draw(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


def net_c(x, relu=jax.nn.relu):
    """One convolution, as in captum's tests; channels first where it is flattened."""
    y = (
        jax.lax.conv_general_dilated(x, jnp.ones((2, 1, 3, 3)), (1, 1), "VALID")
        + jnp.array([-50.0, -75])[None, :, None, None]
    )
    rows = jnp.broadcast_to(jnp.array([1.0, 1, 1, 1, 1, -1, -1, -1])[:, None], (8, 4))
    return relu(relu(y).reshape(len(x), 8) @ rows)


IMAGE = jnp.arange(16.0).reshape(1, 1, 4, 4)
RELUS = {
    "jax": jax.nn.relu,
    "maximum": lambda x: jnp.maximum(x, 0),
    "reversed": lambda x: jnp.maximum(0, x),
    "where": lambda x: jnp.where(x > 0, x, 0),
    "where not": lambda x: jnp.where(x <= 0, 0.0, x),
    "jitted": jax.jit(lambda x: jnp.maximum(x, jnp.zeros_like(x))),
    "jaxconv": jaxconv.activations.relu,
    "loop": lambda x: jax.lax.scan(lambda carry, row: (carry, jax.nn.relu(row)), 0.0, x)[1],
}


@pytest.mark.few(1)
@pytest.mark.parametrize("relu", RELUS.values(), ids=RELUS)
def test_guided_backpropagation_of_one_convolution(relu):
    assert net_c(IMAGE)[0, 0] == 54
    values = attribute(lambda x: net_c(x, relu), IMAGE, 0, method="guided").values[0, 0]
    np.testing.assert_array_equal(values, [[0, 1, 1, 1], [1, 3, 3, 2], [1, 3, 3, 2], [1, 2, 2, 1]])


def test_guided_backpropagation_with_a_second_input():
    pair = (IMAGE, jnp.ones_like(IMAGE))
    values = attribute(lambda pair: net_c(pair[0] + pair[1]), pair, 0, method="guided").values
    for value in values:
        np.testing.assert_array_equal(value[0, 0], [[1, 2, 2, 1], [2, 4, 4, 2], [2, 4, 4, 2], [1, 2, 2, 1]])


def test_guided_and_deconv_by_hand():
    f = lambda x: jax.nn.relu(jax.nn.relu(x) @ jnp.array([[1.0], [-1], [2]]))  # noqa: E731
    x = jnp.array([[1.0, 2, -3], [1, 0.5, 2]])
    np.testing.assert_array_equal(attribute(f, x, 0, method="gradient").values, [[0, 0, 0], [1, -1, 2]])
    np.testing.assert_array_equal(attribute(f, x, 0, method="guided").values, [[0, 0, 0], [1, 0, 2]])
    np.testing.assert_array_equal(attribute(f, x, 0, method="deconv").values, [[1, 0, 2], [1, 0, 2]])


def test_other_activations_keep_their_derivative():
    f = lambda x: -jax.nn.elu(jax.nn.relu6(jax.nn.leaky_relu(x))).sum(1, keepdims=True)  # noqa: E731
    x = draw(2, 5)
    np.testing.assert_array_equal(attribute(f, x, method="guided").values, attribute(f, x).values)


@pytest.mark.slow
def test_integrated_gradients_of_rectifiers():
    f = lambda x: jax.nn.relu(jax.nn.relu(x[:, :1]) - 1 - jax.nn.relu(x[:, 1:]))  # noqa: E731
    values, delta = attribute(f, jnp.array([[3.0, 1.0]]), method="integrated", steps=2000)
    np.testing.assert_allclose(values, [[1.5, -0.5]], atol=2e-3)
    np.testing.assert_allclose(delta, [0], atol=2e-3)
    errors = [abs(attribute(jnp.exp, 2 * jnp.ones((1, 1)), method="integrated", steps=n).delta[0]) for n in (1, 2, 3)]
    assert errors[0] > errors[1] > errors[2]


def test_integrated_gradients_are_exact_for_polynomials():
    x, baseline = draw(3, 4), draw(1, 4, seed=1)
    f = lambda x: (x**5 - 2 * x**2).sum(1, keepdims=True)  # noqa: E731
    values, delta = attribute(f, x, method="integrated", steps=3, baseline=baseline)
    start = jnp.broadcast_to(baseline, x.shape)
    np.testing.assert_allclose(values, (x**5 - 2 * x**2) - (start**5 - 2 * start**2), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(delta, 0, atol=1e-4)


def test_input_x_gradient_and_signs():
    x = draw(3, 4)
    w = jnp.array([[1.0], [-2], [0], [3]])
    np.testing.assert_allclose(attribute(lambda x: x @ w, x).values, jnp.broadcast_to(w.T, (3, 4)))
    np.testing.assert_allclose(attribute(lambda x: x @ w, x, method="input_x_gradient").values, x * w.T, rtol=1e-6)


@pytest.mark.slow
def test_smooth_is_the_mean_gradient_over_noise():
    x = jnp.array([[0.0, 2.0, 5.0]])
    f = lambda x: (x**3).sum(1)  # noqa: E731
    values = attribute(f, x, method="smooth", samples=4000, noise=0.2, key=KEY).values
    np.testing.assert_allclose(values, 3 * (x**2 + (0.2 * 5) ** 2), rtol=0.05, atol=0.3)
    same = attribute(f, x, method="smooth", noise=0, key=KEY).values
    np.testing.assert_allclose(same, attribute(f, x).values, rtol=1e-5)
    # neither other examples nor steps behind change it
    two = attribute(
        lambda x: (x[:, :3] ** 3).sum(1), jnp.array([[0.0, 2, 5, 3], [9, 9, 9, 9]]), method="smooth", key=KEY
    )
    np.testing.assert_allclose(two.values[:1, :3], attribute(f, x, method="smooth", key=KEY).values, rtol=1e-5)


# -- DeepLIFT


def reused(x):
    relu, w = jax.nn.relu, draw(6, 6, seed=3)
    return relu(relu(relu(x @ w) @ w - 0.5) @ w)


def twins(x):
    one, two = reused(x), reused(jnp.flip(x, 1))
    return one * two + jnp.abs(one - two)


FUNCTIONS = {
    "exp": jnp.exp,
    "square": jnp.square,
    "sigmoid times x": lambda x: x * (1 / (1 + jnp.exp(-x))),
    "softmax profile": lambda x: x * jax.nn.softmax(3 * x),
    "logsumexp": lambda x: jax.nn.logsumexp(x, 1, keepdims=True),
    "ten activations": lambda x: sum(
        jaxconv.activations.get(name)(x)
        for name in "relu elu leaky_relu sigmoid tanh softplus gelu silu selu hard_sigmoid".split()  # noqa: SIM905
    ),
    "max and min": lambda x: jnp.maximum(x[:, :3], x[:, 3:]) - jnp.minimum(x[:, :3] ** 2, x[:, 3:]),
    "matmul": lambda x: jnp.einsum("ni,nj->nij", jnp.tanh(x), x),
    "amax": lambda x: jnp.max(x, 1, keepdims=True) * x.min(1, keepdims=True),
    "where": lambda x: jnp.where((x > 0.1) & ~(x > 1), jnp.sin(x), -2 * x) + (x < 0.3).astype(x.dtype),
    "quotient": lambda x: x[:, :3] / (1 + x[:, 3:] ** 2) ** x[:, :3],
    "reused": reused,
    "twins": twins,
    "loop": lambda x: jax.lax.scan(lambda c, row: (jnp.tanh(c + row), c * row), jnp.zeros(len(x)), x.T)[1].T,
    "branch": lambda x: jax.lax.cond(True, lambda x: jnp.sin(x), lambda x: jnp.zeros_like(x), x),
    "remat": jax.checkpoint(lambda x: jnp.sin(jnp.cos(x))),
    "cummax": lambda x: jax.lax.cummax(x, 1),
}


def total(y):
    return (y.reshape(len(y), -1) @ jnp.cos(jnp.arange(y[0].size, dtype=y.dtype))[:, None])[:, 0]


@pytest.mark.few(2)
@pytest.mark.parametrize("f", FUNCTIONS.values(), ids=FUNCTIONS)
def test_deeplift_is_complete(f):
    x, baseline = draw(3, 6), draw(1, 6, seed=1)
    values, delta = attribute(f, x, total, method="deeplift", baseline=baseline, logits=False)
    np.testing.assert_allclose(delta, 0, atol=1e-4)
    change = total(f(x)) - total(f(jnp.broadcast_to(baseline, x.shape)))
    np.testing.assert_allclose(values.sum(1), change, atol=1e-4)
    same = attribute(f, x, total, method="deeplift", baseline=x, logits=False).values
    np.testing.assert_allclose(same, 0, atol=1e-6)


def convolutions(rank, data_format):
    conv, pool = getattr(jaxconv, f"Conv{rank}D"), getattr(jaxconv, f"MaxPooling{rank}D")
    average = getattr(jaxconv, f"AveragePooling{rank}D")
    options = {"data_format": data_format}
    layers = [
        conv(3, 3, activation="relu", bias_initializer="normal", **options),
        pool(3, 1, **options),
        conv(4, 2, activation="tanh", padding="same", **options),
        average(2, **options),
        jaxconv.Flatten(),
        jaxconv.Dense(3, activation="softmax"),
    ]
    shape = (7,) * rank + (2,) if data_format == "channels_last" else (2,) + (7,) * rank
    params, apply_fn = jaxconv.Sequential(layers).init(KEY, (None, *shape))
    return lambda x: apply_fn(params, x), draw(2, *shape)


@pytest.mark.slow
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_deeplift_of_convolutions_with_overlapping_pooling_is_complete(rank, data_format):
    f, x = convolutions(rank, data_format)
    values, delta = attribute(f, x, 1, method="deeplift", baseline=500.0)
    rounding = 1e-6 * np.abs(values).reshape(2, -1).sum(1)  # of float32, as the values are about 500 in size
    assert (np.abs(delta) <= 1e-4 + rounding).all()
    starts = [x, jnp.full_like(x, 500.0)]
    ends = [attribute(f, start, 1, method="deeplift").values.reshape(2, -1).sum(1) for start in starts]
    np.testing.assert_allclose(values.reshape(2, -1).sum(1), ends[0] - ends[1], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("extreme", [jnp.max, jnp.min])
def test_compiled_deeplift_of_a_global_extreme_is_complete(extreme, x64):
    """XLA rounds the operand in one way where it finds the extreme, and in another where it compares."""
    params, apply_fn = jaxconv.GroupNormalization(1, epsilon=0.3, dtype="float64").init(KEY, (None, 8, 2))
    f = Partial(lambda params, x: extreme(apply_fn(params, x) * 0.7 + 0.1, 1), params)
    x, baseline = (jax.random.normal(jax.random.key(seed), (3, 8, 2), "float64") for seed in (0, 1))
    values, delta = attribute(f, x, 0, method="deeplift", baseline=baseline)
    np.testing.assert_allclose(delta, 0, atol=1e-12)
    assert jnp.isfinite(values).all()


def test_deeplift_of_overlapping_pooling_goes_to_the_entry_that_moved():
    pool = lambda x: jax.lax.reduce_window(x, -np.inf, jax.lax.max, (1, 3), (1, 1), "VALID")  # noqa: E731
    x, baseline = jnp.array([[1.0, 5, 2, 0]]), jnp.array([[3.0, 0, 0, 4]])
    # first window: 5 against 3, now at index 1; second window: 5 against 4, now at index 1
    values = attribute(pool, x, lambda y: y.sum(1), method="deeplift", baseline=baseline).values
    np.testing.assert_allclose(values, [[0, 3, 0, 0]])
    # the other way round the reference's entries moved inwards, so that it is the negative
    values = attribute(pool, baseline, lambda y: y.sum(1), method="deeplift", baseline=x).values
    np.testing.assert_allclose(values, [[0, -3, 0, 0]])


def test_deeplift_of_a_rectifier_is_the_rescale_rule():
    f = lambda x: jax.nn.relu(x - 1).sum(1)  # noqa: E731
    values = attribute(f, jnp.array([[3.0, 0.5]]), method="deeplift").values
    np.testing.assert_allclose(values, [[2, 0]])


@pytest.mark.slow
def test_on_a_linear_network_both_are_the_difference_times_the_weights():
    layers = [jaxconv.Conv1D(3, 3), jaxconv.AveragePooling1D(2), jaxconv.Flatten(), jaxconv.Dense(2)]
    params, apply_fn = jaxconv.Sequential(layers).init(KEY, (None, 8, 2))
    x, baseline = draw(2, 8, 2), draw(1, 8, 2, seed=1)
    slope = attribute(lambda x: apply_fn(params, x), x, 1).values
    for method in DIFFERENCES:
        values = attribute(lambda x: apply_fn(params, x), x, 1, method=method, baseline=baseline).values
        np.testing.assert_allclose(values, (x - baseline) * slope, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("f", "name"),
    [
        (lambda x: jnp.sort(x, 1), "sort"),
        (lambda x: jnp.prod(x, 1, keepdims=True), "reduce_prod"),
        (lambda x: jax.lax.while_loop(lambda y: y.max() < 9, lambda y: 2 * y, x), "while"),
        (lambda x: jax.lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, x), "cond"),
        (lambda x: x[jnp.arange(3), jnp.argmax(x, 1)][:, None], "gather"),
    ],
)
def test_deeplift_names_a_primitive_without_a_rule(f, name):
    with pytest.raises(ValueError, match=facts(repr(name), "integrated")):
        attribute(f, jnp.abs(draw(3, 6)) + 0.1, total, method="deeplift")


# -- any library, masks, jit


def flax_network():
    conv, dense = nnx.Conv(2, 4, 3, rngs=nnx.Rngs(0)), nnx.Linear(24, 3, rngs=nnx.Rngs(1))
    return lambda x: nnx.softmax(dense(nnx.max_pool(nnx.relu(conv(x)), (3,)).reshape(len(x), -1)))


def equinox_network():
    keys = jax.random.split(KEY)
    conv, dense = eqx.nn.Conv1d(2, 4, 3, key=keys[0]), eqx.nn.Linear(16, 3, key=keys[1])
    pool = eqx.nn.MaxPool1d(3)
    return jax.vmap(lambda x: jax.nn.softmax(dense(pool(jax.nn.relu(conv(x.T))).ravel())))


@pytest.mark.slow
@pytest.mark.parametrize("network", [flax_network, equinox_network])
def test_networks_of_other_libraries(network):
    f, x = network(), draw(2, 8, 2)
    for method in DIFFERENCES:
        delta = attribute(f, x, 1, method=method, steps=400 if "steps" in METHODS[method] else None).delta
        np.testing.assert_allclose(delta, 0, atol=1e-4 if method == "deeplift" else 0.02)
    guided = jax.jit(lambda x: attribute(f, x, 1, method="guided").values)(x)
    assert not np.array_equal(guided, attribute(f, x, 1).values)


def masked_network(rng, data_format):
    """Return a random network that honours masks, with a nested part of convolutions, in either data format."""
    options = {"data_format": data_format}
    channels = -1 if data_format == "channels_last" else 1

    def part():
        size, rate, padding = (
            int(rng.integers(1, 5)),
            int(rng.integers(1, 3)),
            str(rng.choice(["same", "causal", "valid"])),
        )
        activation = str(rng.choice(["relu", "tanh", "gelu", "linear"]))
        conv = jaxconv.Conv1D(3, size, padding=padding, dilation_rate=rate, activation=activation, **options)
        strided = jaxconv.Conv1D(3, size, 2, padding=padding, bias_initializer="normal", **options)
        return [
            conv,
            strided,
            jaxconv.MaxPooling1D(2, 1, "same", **options),
            jaxconv.AveragePooling1D(2, 1, "same", **options),
            jaxconv.BatchNormalization(axis=channels),
            jaxconv.DepthwiseConv1D(3, padding="same", activation="relu", **options),
            jaxconv.Residual([jaxconv.Conv1D(3, 3, padding="same", activation="relu", **options)]),
        ][rng.integers(7)]

    first = jaxconv.Conv1D(3, 2, padding="same", activation="relu", **options)
    inner = jaxconv.Sequential([part(), jaxconv.Conv1D(3, 1, name="last", **options)], name="inner")
    pool = [jaxconv.GlobalMaxPooling1D, jaxconv.GlobalAveragePooling1D][rng.integers(2)]
    return jaxconv.Sequential([first, part(), inner, pool(data_format=data_format), jaxconv.Dense(2, "softmax")])


@pytest.mark.few(1)
@pytest.mark.parametrize("seed", range(28))
def test_masked_steps_get_zero_and_padding_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    last = seed % 2 == 0
    method = list(METHODS)[seed // 2 % len(METHODS)]
    model = masked_network(rng, "channels_last" if last else "channels_first")
    shape = (None, 14, 2) if last else (None, 2, 14)
    params, apply_fn = model.init(jax.random.key(seed), shape)
    mask = np.arange(14) < np.array([[rng.integers(10, 14)]] * 2 + [[14]])
    x = jnp.asarray(np.where(mask[..., None], rng.standard_normal((3, 14, 2)), np.nan), jnp.float32)
    options = {"key": KEY, "samples": 3, "steps": 5, "noise": 0.1, "baseline": 0.25}
    options = {"method": method} | {name: options[name] for name in METHODS[method]}

    @jax.jit
    def values(x, mask):
        x = x if last else x.mT
        found = attribute(lambda x: apply_fn(params, x, mask), x, 1, mask=mask, **options).values
        return found if last else found.mT, class_activation(apply_fn, params, x, 1, "inner/last", mask=mask)

    padded, maps = (np.asarray(found) for found in values(x, mask))
    assert not padded[~mask].any()
    for example, length in enumerate(mask.sum(1)):
        same = jnp.broadcast_to(x[example, :length], (3, length, 2))  # in its place, on which the noise depends
        alone, map_alone = (found[example] for found in values(same, np.ones((3, length), bool)))
        np.testing.assert_allclose(padded[example, :length], alone, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(maps[example, : len(map_alone)], map_alone, rtol=1e-4, atol=1e-5)
        assert not maps[example, len(map_alone) :].any()


def test_a_partial_is_compiled_once_and_its_arrays_are_arguments():
    traced = []

    def f(params, x):
        traced.append(x.shape)
        return jnp.tanh(x[..., 0] @ params["kernel"])

    def both(params, **options):
        found = attribute(Partial(f, params), x, method="integrated", **options)
        count = len(traced)
        alone = attribute(lambda x: jnp.tanh(x[..., 0] @ params["kernel"]), x, method="integrated", **options)
        np.testing.assert_allclose(found.values, alone.values, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(found.delta, alone.delta, atol=1e-5)
        return count

    x, mask = draw(3, 4, 1), np.array([[True] * 3 + [False]] * 3)
    first = both({"kernel": draw(4, 2, seed=1)}, target=1, mask=mask, baseline=0.25)
    assert both({"kernel": draw(4, 2, seed=2)}, target=1, mask=mask, baseline=0.5) == first
    before = both({"kernel": draw(4, 2)}, target=np.array([0, 1, 0]), baseline=x[:1])
    assert both({"kernel": draw(4, 2)}, target=np.array([1, 1, 0]), baseline=x[:1]) - before == 1  # for its shape
    for target in (2, np.array([0, 1, 2]), [2, 0, 0]):
        with pytest.raises(ValueError, match=facts("target 2", "2 classes")):
            attribute(Partial(f, {"kernel": draw(4, 2)}), x, target)
    with pytest.raises(ValueError, match=facts("not differentiable")):
        attribute(Partial(lambda _, x: jnp.sqrt(x), 0.0), jnp.zeros((1, 1)))


@pytest.mark.parametrize(
    ("f", "x", "options", "error", "parts"),
    [
        (jnp.square, draw(2, 3), {"method": "integrate"}, ValueError, ("integrate", "integrated")),
        (jnp.square, draw(2, 3), {"method": ["smooth"]}, ValueError, ("['smooth']", "integrated")),
        (jnp.square, draw(2, 3), {"target": 3}, ValueError, ("attribute: target 3", "3 classes")),
        (jnp.square, jnp.arange(6).reshape(2, 3), {}, TypeError, ("int32", "float32")),
        (jnp.square, draw(2, 3), {"method": "smooth"}, ValueError, ("smooth", "key")),
        (
            jnp.square,
            draw(2, 3),
            {"method": "integrated", "steps": 0},
            ValueError,
            ("attribute: steps=0", "positive integer"),
        ),
        (jnp.square, draw(2, 3), {"method": "deeplift", "baseline": np.ones(2)}, ValueError, ((2,), (2, 3))),
        (jnp.square, draw(2, 3), {"method": "deeplift", "baseline": "zero"}, ValueError, ("'zero'", (2, 3))),
        (jnp.square, draw(2, 3), {"method": "smooth", "key": 3}, TypeError, ("key", "PRNG")),
        (jnp.square, draw(2, 3), {"method": "smooth", "key": KEY, "noise": -1}, ValueError, ("noise=-1",)),
        (jnp.square, draw(2, 3), {"target": "cat"}, TypeError, ("str",)),
        (jaxconv.Dense(2).init(KEY, (1, 3))[1], draw(2, 3), {}, TypeError, ("apply_fn", "Partial")),
        (draw(2, 3), jnp.square, {}, TypeError, ("f is of type ArrayImpl",)),
        (jnp.square, draw(2, 3), {"mask": np.ones((2, 9), bool)}, ValueError, ((2, 9), (2, 3))),
        (lambda x: jnp.sqrt(x), jnp.array([[4.0], [0.0]]), {}, ValueError, ("example 1", "not differentiable")),
        (lambda x: jnp.log(x), jnp.array([[np.nan]]), {}, ValueError, ("example 0", "x is not finite")),
        (lambda x: np.asarray(x) * 2, draw(2, 3), {}, TypeError, ("NumPy",)),
        (lambda x: x if x.sum() > 0 else -x, draw(2, 3), {}, TypeError, ("jnp.where",)),
        (lambda x: x.argmax(1), draw(2, 3), {}, TypeError, ("int32",)),
        (lambda x: x.sum(0, keepdims=True), draw(2, 3), {}, ValueError, ("1 rows", "batch of 2")),
    ],
)
def test_mistakes_are_explained(f, x, options, error, parts):
    with pytest.raises(error, match=facts(*parts)):
        attribute(f, x, **options)
