"""Mistakes that would train without an error but to nonsense: they raise before training."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxconv as jc
from jaxconv.contract import Effects
from jaxconv.contract.output_values import output_origin
from jaxconv.training import evaluate, fit, loss, predict, train_step
from tests.support.messages import facts

X, LABELS = np.random.default_rng(0).normal(size=(12, 6)).astype("float32"), np.arange(12) % 3
SPARSE, LOGITS = "sparse_categorical_crossentropy", {"name": "sparse_categorical_crossentropy", "from_logits": True}


def graph(head):
    x = jc.Input((6,))
    return jc.Model(x, jc.Flatten()(head(jc.Dense(4, activation="relu")(x))))


class Scaled(jc.Dense):
    """A layer with a computation of its own: what its values are is unknown."""

    def call(self, params, x, *, train, key, mask):
        return jax.nn.softmax(super().call(params, x, train=train, key=key, mask=mask)[0]), Effects()


MODELS = {
    "alone": lambda head: head,
    "sequential": lambda head: jc.Sequential([jc.Dense(4), head, jc.Dropout(0.1)]),
    "nested": lambda head: jc.Sequential([jc.Sequential([jc.Dense(4, activation="tanh"), head]), jc.Reshape((3,))]),
    "graph": graph,
    "wrapped": lambda head: jc.Sequential([jc.WeightNormalization(head)]),
    "model in a sequential": lambda head: jc.Sequential([jc.Dense(6), graph(head)]),
}


@pytest.mark.parametrize("kind", MODELS)
def test_logits_for_a_loss_of_probabilities_are_refused_and_the_reverse(kind):
    for activation, wrong, right, parts in (
        (None, SPARSE, LOGITS, ["'dense", "linear", "from_logits", 'activation="softmax"']),
        ("softmax", LOGITS, SPARSE, ["'dense", "softmax", "from_logits=False"]),
    ):
        model = MODELS[kind](jc.Dense(3, activation=activation))
        params, apply_fn = model.init(jax.random.key(0), X)
        parts = [part.replace("'dense", "'Dense") if kind in ("alone", "wrapped") else part for part in parts]
        with pytest.raises(ValueError, match=facts("SparseCategoricalCrossentropy", *parts)):
            fit(apply_fn, params, X, LABELS, loss=wrong)
        with pytest.raises(ValueError, match=facts("SparseCategoricalCrossentropy", *parts)):
            evaluate(apply_fn, params, X, LABELS, loss=wrong)
        train_step(apply_fn, loss(right), optax.sgd(0.1))


@pytest.mark.parametrize(
    "name, activation, allowed",
    [
        ("binary_crossentropy", None, False),
        ("binary_crossentropy", "tanh", False),
        ("binary_crossentropy", "sigmoid", True),
        ("categorical_crossentropy", "log_softmax", False),
        ("categorical_crossentropy", "relu", True),
        ("kl_divergence", None, False),
        ("mean_squared_error", None, True),
        ("hinge", "tanh", True),
    ],
)
def test_each_loss_of_probabilities_asks(name, activation, allowed):
    apply_fn = jc.Dense(3, activation=activation).apply_fn
    if allowed:
        train_step(apply_fn, loss(name), optax.sgd(0.1))
        return
    with pytest.raises(ValueError, match=facts("Dense", activation or "linear", "activation=")):
        train_step(apply_fn, loss(name), optax.sgd(0.1))


def test_labels_of_the_wrong_kind_are_answered_by_the_right_one():
    params, apply_fn = jc.Dense(3, activation="softmax").init(jax.random.key(0), X)
    with pytest.raises(ValueError, match=facts("(12,)", "sparse_categorical_crossentropy", "jax.nn.one_hot(y, 3)")):
        loss("categorical_crossentropy")(LABELS, apply_fn(params, X))
    with pytest.raises(ValueError, match=facts("from 1.0 to 3.0", "0 to 2", "y.astype(int)")):
        fit(apply_fn, params, X, LABELS + 1.0, loss=SPARSE)
    assert fit(apply_fn, params, X, LABELS + 1, loss=SPARSE).classes == (1, 2, 3)


def test_what_is_unknown_is_not_judged():
    assert output_origin(Scaled(3)) is None
    assert output_origin(jc.Sequential([jc.Dense(3), jc.Add()])) is None
    assert (
        output_origin(jc.Sequential([jc.Dense(3, activation="softmax"), jc.BatchNormalization()])).activation
        == "linear"
    )
    per_step = jc.TimeDistributed(jc.Dense(3, activation="softmax"))
    assert output_origin(jc.Sequential([per_step, jc.GlobalAveragePooling1D()])).activation == "softmax"
    train_step(Scaled(3).apply_fn, loss(SPARSE), optax.sgd(0.1))


def test_a_loss_with_reversed_arguments_is_refused_at_once():
    apply_fn = jc.Dense(3).apply_fn
    for wrong in (optax.sigmoid_binary_cross_entropy, optax.softmax_cross_entropy, lambda pred, target: pred - target):
        for call in (lambda: loss(wrong), lambda: train_step(apply_fn, wrong, optax.sgd(0.1))):  # noqa: B023
            with pytest.raises(TypeError, match=facts("(y_true, y_pred)", "y_pred, y_true")):
                call()
    for right in (optax.l2_loss, optax.squared_error, lambda y, p: y - p, lambda y_true, y_pred: y_true - y_pred):
        assert loss(right) is right


def test_an_array_with_channels_first_is_named():
    x, y = np.zeros((5, 2, 96), "float32"), np.zeros((5, 4), "float32")
    model = jc.Sequential([jc.Conv1D(4, 3, padding="same"), jc.GlobalAveragePooling1D()])
    params, apply_fn = model.init(jax.random.key(0), (None, 96, 2))
    with pytest.raises(ValueError, match=facts("x has shape (5, 2, 96)", "channels_first", "np.moveaxis(x, 1, -1)")):
        fit(apply_fn, params, x, y, loss="mse", metrics=())
    params, apply_fn = model.init(jax.random.key(0), x)
    batches = [(x, y), (x[:3], y[:3])]
    arrays = {"metrics": (), "validation_data": (x[:2], y[:2])}
    for call, is_here in ((lambda: fit(apply_fn, params, x, y, loss="mse", **arrays), True),
                          (lambda: evaluate(apply_fn, params, batches, loss="mse"), False)):  # fmt: skip
        with pytest.warns(UserWarning, match=facts("(5, 2, 96)", "2 steps of 96 channels", "(5, 96, 2)")) as found:
            call()
        places = [warning.filename for warning in found if "channels_first" in str(warning.message)]
        assert len(places) == 1  # a loader is read in another thread, which has no line of the user
        assert (places == [__file__]) == is_here
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(*reversed(model.init(jax.random.key(0), (None, 96, 2))), x.swapaxes(1, 2), y, loss="mse", metrics=())


@pytest.mark.parametrize("name", ["mse", SPARSE])
def test_a_missing_axis_of_channels_is_named_with_the_shape_of_the_users_array(name):
    model = jc.Sequential([jc.Conv1D(4, 3), jc.GlobalAveragePooling1D(), jc.Dense(3, activation="softmax")])
    params, apply_fn = model.init(jax.random.key(0), (None, 9, 1))
    for call in (fit, evaluate):
        with pytest.raises(ValueError, match=facts("(70, 9)", "x[..., None]")):
            call(apply_fn, params, np.zeros((70, 9), "float32"), np.zeros(70, int), loss=name)
    with pytest.raises(ValueError, match=facts("(70, 9)", "x[..., None]")):
        predict(apply_fn, params, np.zeros((70, 9), "float32"))
    with pytest.raises(ValueError, match=facts("(70, 9)", "x[:, None]")):
        jc.Conv1D(4, 3, data_format="channels_first").init(jax.random.key(0), jnp.zeros((70, 9)))


def two_outputs():
    x = jc.Input((3,))
    return jc.Model(x, [jc.Dense(2)(x), jc.Dense(2, activation="tanh")(x)]).init(jax.random.key(0), (None, 3))


def test_predict_returns_several_outputs_in_their_structure():
    params, apply_fn = two_outputs()
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    first, second = predict(apply_fn, params, x, batch_size=2)
    assert first.shape == second.shape == (5, 2)
    for got, expected in zip((first, second), apply_fn(params, x), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("run", [fit, evaluate])
def test_training_takes_a_model_with_one_output(run):
    params, apply_fn = two_outputs()
    with pytest.raises(ValueError, match=facts("several outputs (2)", "apply_fn.forward")):
        run(apply_fn, params, np.ones((4, 3)), np.ones((4, 2)), loss="mse")


def test_options_of_evaluate_and_predict_name_the_function():
    params, apply_fn = jc.Dense(2).init(jax.random.key(0), (None, 3))
    with pytest.raises(ValueError, match=r"^evaluate: batch_size is 0"):
        evaluate(apply_fn, params, np.ones((4, 3)), np.ones((4, 2)), loss="mse", batch_size=0)
    with pytest.raises(ValueError, match=r"^predict: batch_size is 0"):
        predict(apply_fn, params, np.ones((4, 3)), batch_size=0)
