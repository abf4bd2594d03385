"""Losses: Keras's values and gradients, hand-computed numbers, invalid shapes."""

import contextlib
import json

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from jaxconv.training.losses import BinaryCrossentropy, CategoricalCrossentropy, loss, losses

RNG = np.random.default_rng(7)


@contextlib.contextmanager
def as_keras_expects():
    """Allow implicit promotion and broadcasting, which Keras uses."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def _probabilities(*shape):
    p = RNG.uniform(0.05, 1, shape)
    return (p / p.sum(-1, keepdims=True)).astype(np.float32)


def _normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


ONE_HOT = np.eye(4, dtype=np.float32)[[0, 2, 3, 1, 1]]
BITS = np.array([[0, 1, 1], [1, 0, 0], [1, 1, 0]], np.float32)
UNIT = RNG.uniform(0.01, 0.99, (3, 3)).astype(np.float32)
CASES = [
    ("mse", {}, _normal(5, 3), _normal(5, 3)),
    pytest.param("mean_squared_error", {}, _normal(4, 3, 2), _normal(4, 3, 2), marks=pytest.mark.slow),
    ("mae", {}, _normal(5, 3), _normal(5, 3)),
    ("mape", {}, _normal(5, 3), _normal(5, 3)),
    ("msle", {}, RNG.uniform(0, 3, (5, 3)), RNG.uniform(-1, 3, (5, 3)).astype(np.float32)),
    pytest.param("huber", {}, 3 * _normal(5, 3), _normal(5, 3), marks=pytest.mark.slow),
    ("huber", {"delta": 0.3}, 3 * _normal(5, 3), _normal(5, 3)),
    ("log_cosh", {}, 30 * _normal(5, 3), _normal(5, 3)),
    ("hinge", {}, BITS, _normal(3, 3)),
    pytest.param("hinge", {}, 2 * BITS - 1, _normal(3, 3), marks=pytest.mark.slow),
    ("squared_hinge", {}, BITS, _normal(3, 3)),
    ("categorical_hinge", {}, ONE_HOT, _normal(5, 4)),
    ("kl_divergence", {}, _probabilities(5, 4), _probabilities(5, 4)),
    ("poisson", {}, RNG.poisson(3, (5, 3)), RNG.uniform(0.1, 4, (5, 3)).astype(np.float32)),
    ("cosine_similarity", {}, _normal(5, 3), _normal(5, 3)),
    ("binary_crossentropy", {}, BITS, UNIT),
    pytest.param("binary_crossentropy", {"label_smoothing": 0.2}, BITS, UNIT, marks=pytest.mark.slow),
    ("binary_crossentropy", {"from_logits": True}, BITS, 20 * _normal(3, 3)),
    ("binary_crossentropy", {}, BITS, BITS),  # saturated: the clipping at 1e-7 decides
    ("categorical_crossentropy", {}, ONE_HOT, _probabilities(5, 4)),
    pytest.param(
        "categorical_crossentropy", {"label_smoothing": 0.1}, ONE_HOT, _probabilities(5, 4), marks=pytest.mark.slow
    ),
    ("categorical_crossentropy", {"from_logits": True, "label_smoothing": 0.1}, ONE_HOT, 20 * _normal(5, 4)),
    ("categorical_crossentropy", {}, ONE_HOT, 3 * _probabilities(5, 4)),  # not normalised
    pytest.param("categorical_crossentropy", {}, ONE_HOT, ONE_HOT[::-1].copy(), marks=pytest.mark.slow),
    ("sparse_categorical_crossentropy", {}, np.array([0, 3, 1]), _probabilities(3, 4)),
    pytest.param(
        "sparse_categorical_crossentropy", {}, np.array([[0], [3], [1]]), _probabilities(3, 4), marks=pytest.mark.slow
    ),
    ("sparse_categorical_crossentropy", {"from_logits": True}, np.array([0, 3, 1]), 20 * _normal(3, 4)),
    pytest.param(
        "sparse_categorical_crossentropy",
        {},
        np.array([[0, 3], [1, 1]]),
        _probabilities(2, 2, 4),
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("name", "options", "y_true", "y_pred"), CASES, ids=lambda v: str(v) if isinstance(v, str) else ""
)
def test_values_and_gradients_equal_keras(name, options, y_true, y_pred):
    ours = loss({"name": name, **options})
    theirs = keras.losses.get(name)

    def their_mean(p):
        return jnp.mean(theirs(y_true, p, **options))

    with as_keras_expects():
        expected, expected_grad = jax.jit(jax.value_and_grad(their_mean))(jnp.asarray(y_pred))
    value, grad = jax.jit(jax.value_and_grad(lambda p: jnp.mean(ours(y_true, p))))(jnp.asarray(y_pred))
    assert ours(y_true, y_pred).shape == (len(y_pred),)
    # float32; both sides round in a different order
    np.testing.assert_allclose(value, expected, rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(grad, expected_grad, rtol=2e-5, atol=1e-6)


def test_crossentropies_of_hand_computed_probabilities():
    assert float(loss("sparse_categorical_crossentropy")(np.array([1]), np.array([[0.75, 0.25]]))[0]) == pytest.approx(
        np.log(4), rel=1e-6
    )
    assert float(loss("bce")(np.array([[1.0]]), np.array([[0.5]]))[0]) == pytest.approx(np.log(2), rel=1e-6)


def test_every_alias_is_keras_s_name_for_the_same_class():
    for name in losses.names():
        assert type(loss(name)).__name__ == type(losses.get(name)).__name__
    for alias, name in {"MSE": "MeanSquaredError", "KLD": "KLDivergence", "BCE": "BinaryCrossentropy"}.items():
        assert type(loss(alias)).__name__ == name


def test_equal_options_give_equal_losses_that_hash_and_survive_json():
    huber = loss({"name": "huber", "delta": 0.5})
    assert huber == loss({"class_name": "Huber", "config": {"delta": 0.5}}) and hash(huber) == hash(loss(huber))
    assert loss(json.loads(json.dumps(losses.serialize(huber)))) == huber


@pytest.mark.parametrize("shapes", [((6,), (6, 1)), ((6, 1), (6,)), ((6, 2), (6, 2, 1))])
def test_a_last_axis_of_length_one_is_ignored(shapes):
    y_true, y_pred = _normal(*shapes[0]), _normal(*shapes[1])
    expected = np.square(y_true.ravel() - y_pred.ravel()).reshape(6, -1).mean(1)
    np.testing.assert_allclose(loss("mse")(y_true, y_pred), expected, rtol=1e-6)


@pytest.mark.parametrize("shapes", [((6, 1), (6, 5)), ((6,), (6, 5)), ((5, 6), (6, 5)), ((1, 5), (6, 5)), ((), ())])
def test_different_shapes_are_not_broadcast(shapes):
    with pytest.raises(ValueError, match="MeanSquaredError") as caught:
        loss("mse")(np.zeros(shapes[0]), np.zeros(shapes[1]))
    assert str(shapes[0]) in str(caught.value) and str(shapes[1]) in str(caught.value)


def test_a_sparse_loss_refuses_one_hot_targets():
    with pytest.raises(ValueError, match=r"\(5, 4\).*\(5,\).*categorical_crossentropy"):
        loss("sparse_categorical_crossentropy")(ONE_HOT, ONE_HOT)


@pytest.mark.parametrize("name", ["categorical_crossentropy", "sparse_categorical_crossentropy"])
def test_a_single_output_has_no_classes(name):
    with pytest.raises(ValueError, match="binary_crossentropy"):
        loss(name)(np.zeros((3, 1)), np.ones((3, 1)))


def test_a_label_outside_the_classes_gives_nan_and_is_found_on_the_host():
    ours, y_pred = loss("sparse_categorical_crossentropy"), _probabilities(3, 4)
    assert np.isnan(ours(np.array([0, 4, -1]), y_pred)).tolist() == [False, True, True]
    with pytest.raises(ValueError, match=r"-1 to 4.* 4 classes"):
        ours.check(np.array([0, 4, -1]), (3, 4))
    with pytest.raises(ValueError, match=r"1\.5"):
        ours.check(np.array([0.0, 1.5]), (2, 4))
    ours.check(np.array([0.0, 3.0]), (2, 4))


def test_a_logit_of_minus_infinity_does_not_affect_other_labels():
    ours, logits = (
        loss({"name": "sparse_categorical_crossentropy", "from_logits": True}),
        np.array([[1.0, 1.0, -np.inf]]),
    )
    assert ours(np.array([0]), logits).tolist() == pytest.approx([np.log(2)])
    gradient = jax.grad(lambda z: ours(np.array([0]), z).sum())(jnp.asarray(logits, jnp.float32))
    assert gradient.tolist() == [[-0.5, 0.5, 0.0]]


def test_half_precision_is_computed_in_float32():
    y = jnp.full((1, 4096), 100.0, jnp.float16)  # the sum of squares overflows float16
    assert loss("mse")(jnp.zeros((1, 4096)), y).dtype == jnp.float32
    assert float(loss("mse")(jnp.zeros((1, 4096)), y)[0]) == 10000


def test_float64_predictions_stay_float64(x64):
    assert loss("mse")(np.zeros((2, 1)), np.ones((2, 1))).dtype == jnp.float64


def test_log_cosh_does_not_overflow():
    assert float(loss("log_cosh")(np.zeros((1, 1)), np.full((1, 1), 1e4))[0]) == pytest.approx(1e4 - np.log(2))


@pytest.mark.parametrize(
    ("identifier", "error", "message"),
    [
        ("mean_square_error", ValueError, "'mean_square_error'.*'mean_squared_error'"),
        ({"name": "huber", "delt": 1}, ValueError, "'delt'.*'delta'"),
        ({"name": "mse", "x": 1}, ValueError, "'x'.* none"),
        ({"delta": 1}, ValueError, "'name'"),
        (3, TypeError, "3"),
        (None, TypeError, "None"),
    ],
)
def test_an_unknown_loss_is_refused(identifier, error, message):
    with pytest.raises(error, match=message):
        loss(identifier)


@pytest.mark.parametrize("kind", [BinaryCrossentropy, CategoricalCrossentropy])
def test_label_smoothing_is_a_fraction(kind):
    with pytest.raises(ValueError, match=r"label_smoothing is 1\.5.*0 to 1"):
        kind(label_smoothing=1.5)


@pytest.mark.parametrize("dtypes", [("float32", "complex64"), ("complex64", "float32")])
def test_complex_numbers_are_refused(dtypes):
    with pytest.raises(TypeError, match="complex64"):
        loss("mse")(*(np.zeros(3, dtype) for dtype in dtypes))
