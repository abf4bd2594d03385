"""Targets of explanations: one score of each sample, of the logits if the model ends in a softmax or sigmoid."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxconv
from jaxconv.inspect.target import fix, logits, select
from tests.support.messages import facts

Y = jnp.asarray(np.random.default_rng(0).permutation(24).reshape(2, 3, 4), jnp.float32)
CLASSES = Y[:, 0]


@pytest.mark.parametrize(
    ("y", "target", "expected"),
    [
        (CLASSES, None, CLASSES.max(1)),
        (Y, None, Y.max((1, 2))),
        (CLASSES[:, :1], None, CLASSES[:, 0]),
        (CLASSES[:, 0], None, CLASSES[:, 0]),
        (CLASSES, 2, CLASSES[:, 2]),
        (CLASSES, -1, CLASSES[:, 3]),
        (CLASSES, np.int64(1), CLASSES[:, 1]),
        (Y, (1, 3), Y[:, 1, 3]),
        (Y, (1, -1), Y[:, 1, 3]),
        (CLASSES, np.array([3, 0]), CLASSES[np.arange(2), [3, 0]]),
        (CLASSES, [3, 0], CLASSES[np.arange(2), [3, 0]]),
        (Y, jnp.array([[0, 1], [2, 3]]), np.array([Y[0, 0, 1], Y[1, 2, 3]])),
        (Y, lambda y: y[:, 0].sum(1), Y[:, 0].sum(1)),
        ((Y, CLASSES), lambda y: y[1][:, 2], CLASSES[:, 2]),
    ],
)
def test_a_target_selects_one_score_of_each_example(y, target, expected):
    np.testing.assert_array_equal(select(y, target), expected)


def test_no_target_stays_the_class_of_the_first_input():
    fixed = fix(CLASSES, None)
    np.testing.assert_array_equal(select(-CLASSES, fixed), -CLASSES.max(1))
    slope = jax.grad(lambda y: select(y, None).sum())(CLASSES)
    np.testing.assert_array_equal(slope, jax.nn.one_hot(CLASSES.argmax(1), 4))


@pytest.mark.parametrize(
    ("y", "target", "error", "parts"),
    [
        (CLASSES, 4, ValueError, (4, "4 classes", (2, 4))),
        (CLASSES, -5, ValueError, (-5, "4 classes")),
        (CLASSES, np.array([0, 7]), ValueError, (7, "4 classes")),
        (Y, (3, 0), ValueError, (3, "3 entries", "axis 1")),
        (Y, 1, ValueError, ((2, 3, 4), "2 integers")),
        (CLASSES, (0, 1), ValueError, ((2, 4), "1 integers")),
        (CLASSES, np.array([0, 1, 2]), ValueError, (3, "batch of 2")),
        (CLASSES, 1.0, TypeError, ("float", "integer")),
        (CLASSES, True, TypeError, ("bool", "integer")),
        (CLASSES, np.array([1.0, 0.0]), TypeError, ("float64", "integer")),
        (CLASSES, "cat", TypeError, ("str", "integer")),
        (CLASSES, lambda y: y, ValueError, ((2, 4), (2,))),
        (CLASSES, lambda y: y.argmax(1), TypeError, ("int32",)),
        ((Y, CLASSES), 1, TypeError, ("2 outputs", "function")),
        (jnp.argmax(CLASSES, 1), None, TypeError, ("int32", (2,))),
        (jnp.float32(1), None, TypeError, ("()",)),
    ],
)
def test_a_wrong_target_is_refused_in_a_sentence(y, target, error, parts):
    with pytest.raises(error, match=facts(*parts)):
        select(y, target)


# -- logits


def jaxconv_network(activation):
    layers = [jaxconv.Conv1D(4, 3, activation="relu"), jaxconv.Flatten(), jaxconv.Dense(3, activation=activation)]
    params, apply_fn = jaxconv.Sequential(layers).init(jax.random.key(0), (None, 8, 2))
    return lambda x: apply_fn(params, x)


def flax_network(activation):
    conv, dense = nnx.Conv(2, 4, 3, rngs=nnx.Rngs(0)), nnx.Linear(32, 3, rngs=nnx.Rngs(1))
    return lambda x: activation(dense(nnx.relu(conv(x)).reshape(len(x), -1)))


def equinox_network(activation):
    keys = jax.random.split(jax.random.key(0))
    conv, dense = eqx.nn.Conv1d(2, 4, 3, key=keys[0]), eqx.nn.Linear(24, 3, key=keys[1])
    return jax.vmap(lambda x: activation(dense(jax.nn.relu(conv(x.T)).ravel())))


def by_hand(x):
    e = jnp.exp(x)
    return e / e.sum(-1, keepdims=True)


def shifted(x):
    e = jnp.exp(x - x.max(-1, keepdims=True))
    return e / jnp.sum(e, -1, keepdims=True)


ENDINGS = [jax.nn.softmax, jax.nn.sigmoid, by_hand, shifted, jax.jit(jax.nn.softmax), jax.checkpoint(jax.nn.sigmoid)]


@pytest.mark.few(1)
@pytest.mark.parametrize("ending", [*ENDINGS, lambda x: 1 / (1 + jnp.exp(-x))])
@pytest.mark.parametrize("network", [flax_network, equinox_network])
def test_the_last_softmax_or_sigmoid_is_left_out(network, ending):
    x = jax.random.normal(jax.random.key(1), (2, 8, 2))
    scores = network(lambda z: z)(x)
    f = network(ending)
    np.testing.assert_allclose(logits(f)(x), scores, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logits(jax.jit(f))(x), scores, rtol=1e-5, atol=1e-6)
    assert np.abs(f(x) - scores).max() > 0.1


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_the_last_activation_of_a_jaxconv_network_is_left_out(name):
    x = jax.random.normal(jax.random.key(1), (2, 8, 2))
    scores = jaxconv_network(None)(x)
    np.testing.assert_allclose(logits(jaxconv_network(name))(x), scores, rtol=1e-6)
    half = logits(lambda x: jaxconv_network(name)(x).astype(jnp.bfloat16))(x)
    np.testing.assert_array_equal(half, scores.astype(jnp.bfloat16))
    np.testing.assert_allclose(logits(lambda x: jaxconv_network(name)(x).reshape(3, 2))(x), scores.reshape(3, 2), 1e-6)


def test_a_softmax_with_its_own_derivative_is_left_out():
    @jax.custom_jvp
    def softmax(x):
        return jax.nn.softmax(x)

    softmax.defjvp(lambda primals, tangents: jax.jvp(jax.nn.softmax, primals, tangents))
    x = jnp.array([[0.0, 3.0]])
    np.testing.assert_array_equal(logits(lambda x: softmax(2 * x))(x), 2 * x)


def test_each_output_of_several_loses_its_own():
    x = jnp.array([[0.5, 3.0]])
    y = logits(lambda x: {"a": jax.nn.softmax(x), "b": jnp.tanh(x), "c": jax.nn.sigmoid(x)})(x)
    np.testing.assert_array_equal(y["a"], x)
    np.testing.assert_array_equal(y["b"], jnp.tanh(x))
    np.testing.assert_array_equal(y["c"], x)


@pytest.mark.parametrize(
    "f",
    [
        jax.nn.log_softmax,
        lambda x: x * jax.nn.sigmoid(x),
        lambda x: 1 - jax.nn.sigmoid(x),
        lambda x: jnp.exp(x) / x.sum(-1, keepdims=True),
        lambda x: jnp.exp(x) / jnp.exp(2 * x).sum(-1, keepdims=True),
        lambda x: jax.nn.softmax(x) @ jnp.ones((2, 2)),
    ],
)
def test_everything_else_stays(f):
    x = jnp.array([[0.5, 3.0]])
    np.testing.assert_array_equal(logits(f)(x), f(x))


def test_logits_can_be_differentiated_and_jitted():
    x = jax.random.normal(jax.random.key(1), (2, 8, 2))
    f, g = logits(jaxconv_network("softmax")), jaxconv_network(None)
    one, two = (jax.jit(jax.grad(lambda x, h=h: h(x)[:, 1].sum()))(x) for h in (f, g))
    np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
