"""Metrics: Keras's values for all batch sizes; names in the log; errors."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from jaxconv.layers.dense import Dense
from jaxconv.training.evaluation import Accumulator, evaluate
from jaxconv.training.fit import fit
from jaxconv.training.metrics import Accuracy, metric, metrics
from jaxconv.training.terms import metric_values

RNG = np.random.default_rng(3)
SCORES = RNG.uniform(0.01, 1, (11, 6)).astype(np.float32)
LABELS = RNG.integers(0, 6, 11)
ONE_HOT = np.eye(6, dtype=np.float32)[LABELS]
BITS = RNG.integers(0, 2, (11, 3)).astype(np.float32)
UNIT = RNG.uniform(size=(11, 3)).astype(np.float32)
REAL = RNG.normal(size=(2, 11, 3)).astype(np.float32)


def over_batches(m, y_true, y_pred, size=4):
    accumulator = Accumulator()
    for i in range(0, len(y_pred), size):
        y, p = y_true[i : i + size], y_pred[i : i + size]
        accumulator.add({"loss": np.float32(0), "count": np.float32(len(p)), m.name: m(y, p).sum(axis=0)})
    return metric_values(accumulator.collect(), [m])[m.name]


@pytest.mark.few(1)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_a_function_in_half_precision_is_summed_in_float32(dtype):
    values = jnp.asarray(np.random.default_rng(0).uniform(0.5, 1.5, 4000), dtype)
    made = metric(lambda y_true, y_pred: y_pred)
    got = over_batches(made, values, values, size=1)  # bfloat16 sums of ones stop at 256, float16 ones at 2048
    np.testing.assert_allclose(got, np.asarray(values, np.float64).mean(), rtol=1e-5)


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("name", "options", "y_true", "y_pred"),
    [
        ("BinaryAccuracy", {}, BITS, UNIT),
        pytest.param("BinaryAccuracy", {"threshold": 0.2}, BITS, UNIT, marks=pytest.mark.slow),
        ("CategoricalAccuracy", {}, ONE_HOT, SCORES),
        ("SparseCategoricalAccuracy", {}, LABELS, SCORES),
        ("SparseCategoricalAccuracy", {}, LABELS[:, None], SCORES),
        pytest.param(
            "SparseCategoricalAccuracy",
            {},
            RNG.integers(0, 3, (11, 2)),
            RNG.uniform(size=(11, 2, 3)),
            marks=pytest.mark.slow,
        ),
        ("TopKCategoricalAccuracy", {"k": 2}, ONE_HOT, SCORES),
        pytest.param("TopKCategoricalAccuracy", {}, ONE_HOT, SCORES, marks=pytest.mark.slow),
        pytest.param("SparseTopKCategoricalAccuracy", {"k": 3}, LABELS, SCORES, marks=pytest.mark.slow),
        ("SparseTopKCategoricalAccuracy", {"k": 3}, LABELS, np.round(SCORES * 3)),  # ties
        ("Precision", {}, BITS, UNIT),
        ("Recall", {"threshold": 0.7}, BITS, UNIT),
        ("RootMeanSquaredError", {}, *REAL),
        pytest.param("MeanSquaredError", {}, *REAL, marks=pytest.mark.slow),
        pytest.param("MeanAbsoluteError", {}, *REAL, marks=pytest.mark.slow),
        ("CosineSimilarity", {}, *REAL),
        ("Huber", {}, *REAL),
        pytest.param("SparseCategoricalCrossentropy", {}, LABELS, SCORES, marks=pytest.mark.slow),
    ],
)
def test_values_over_uneven_batches_equal_keras_over_all_samples(name, options, y_true, y_pred):
    if name == "Huber":  # Keras has no such metric class, but wraps any loss function
        theirs = keras.metrics.MeanMetricWrapper(keras.losses.huber)
    else:
        renamed = {"thresholds" if name in ("Precision", "Recall") else key: v for key, v in options.items()}
        theirs = getattr(keras.metrics, name)(**renamed)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        theirs.update_state(y_true, y_pred)
        expected = float(theirs.result())
    ours = over_batches(metric({"name": name, **options}), y_true, y_pred)
    assert ours == pytest.approx(expected, rel=1e-6)  # float32


def test_the_kind_of_accuracy_follows_from_the_shapes():
    expected = [1.0, 0.0]
    assert Accuracy()(np.array([1, 0]), np.array([[0.1, 0.9], [0.2, 0.8]])).tolist() == expected  # labels
    assert Accuracy()(np.array([[1], [0]]), np.array([[0.1, 0.9], [0.2, 0.8]])).tolist() == expected
    assert Accuracy()(np.eye(2)[::-1], np.array([[0.1, 0.9], [0.2, 0.8]])).tolist() == expected  # one-hot
    assert Accuracy()(np.array([1, 0]), np.array([[0.9], [0.8]])).tolist() == expected  # one output
    assert Accuracy()(np.array([[1], [0]]), np.array([0.9, 0.8])).tolist() == expected


def test_labels_are_compared_where_64_bit_types_are_on(x64):
    assert Accuracy()(np.array([1, 0]), np.array([[0.1, 0.9], [0.8, 0.2]])).tolist() == [1.0, 1.0]


LOGITS = RNG.normal(size=(40, 1)).astype(np.float32)
TARGETS = (LOGITS + RNG.normal(size=(40, 1)) > 0).astype(np.float32)
NAMES = ["accuracy", "binary_accuracy", "precision", "recall"]


def expected_scores(positive):
    true, hits = TARGETS > 0, (TARGETS > 0) & positive
    right = np.mean(true == positive)
    return dict(zip(NAMES, [right, right, hits.sum() / positive.sum(), hits.sum() / true.sum()], strict=True))


@pytest.mark.parametrize(
    ("loss", "options", "threshold"),
    [
        ({"name": "binary_crossentropy", "from_logits": True}, {}, 0.0),
        ({"name": "binary_crossentropy", "from_logits": True}, {"threshold": 0.5}, 0.5),
        ("mse", {}, 0.5),
    ],
)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_metric_without_a_threshold_has_that_of_the_loss(loss, options, threshold, accumulate):
    params, apply_fn = Dense(1, kernel_initializer="ones", trainable=False).init(jax.random.key(0), (None, 1))
    given = [{"name": name, **options} for name in NAMES]
    expected = pytest.approx(expected_scores(threshold < LOGITS), rel=1e-6)  # float32
    log = fit(apply_fn, params, LOGITS, TARGETS, loss=loss, metrics=given, accumulate=accumulate).history[0]
    assert {name: log[name] for name in NAMES} == expected
    scores = evaluate(apply_fn, params, LOGITS, TARGETS, loss=loss, metrics=given, batch_size=7)
    assert {name: scores[name] for name in NAMES} == expected
    if not options:
        named = evaluate(apply_fn, params, LOGITS, TARGETS, loss=loss, metrics=NAMES)
        assert named == pytest.approx(scores, rel=1e-6)
    if threshold == 0:
        assert evaluate(apply_fn, params, LOGITS, TARGETS, loss=loss)["accuracy"] == pytest.approx(named["accuracy"])


def test_logits_of_classes_have_no_default_threshold():
    params, apply_fn = Dense(6).init(jax.random.key(0), (None, 6))
    loss = {"name": "categorical_crossentropy", "from_logits": True}
    for name in ("precision", "binary_accuracy"):
        with pytest.raises(ValueError, match=rf"{name}.*CategoricalCrossentropy with from_logits=True.*threshold"):
            evaluate(apply_fn, params, SCORES, ONE_HOT, loss=loss, metrics=name)
    given = ["accuracy", {"name": "recall", "threshold": 0.3}]
    assert set(evaluate(apply_fn, params, SCORES, ONE_HOT, loss=loss, metrics=given)) == {"loss", "accuracy", "recall"}


def test_a_crossentropy_of_probabilities_is_no_metric_of_logits():
    params, apply_fn = Dense(1).init(jax.random.key(0), (None, 1))
    loss = {"name": "binary_crossentropy", "from_logits": True}
    with pytest.raises(ValueError, match=r"BinaryCrossentropy.*linear.*from_logits=True"):
        evaluate(apply_fn, params, LOGITS, TARGETS, loss=loss, metrics="binary_crossentropy")
    scores = evaluate(apply_fn, params, LOGITS, TARGETS, loss=loss, metrics=[loss])
    assert scores["binary_crossentropy"] == pytest.approx(scores["loss"])


def test_precision_and_recall_without_positives_are_zero():
    assert over_batches(metric("precision"), BITS, np.zeros_like(UNIT)) == 0
    assert over_batches(metric("recall"), np.zeros_like(BITS), UNIT) == 0


def test_the_name_given_is_the_name_in_the_log():
    def wobble(y_true, y_pred):
        return abs(y_true - y_pred)

    identifiers = ["acc", "mse", {"name": "top_k_categorical_accuracy", "k": 3}, wobble, Accuracy(name="mine")]
    assert [m.name for m in metrics(identifiers)] == ["acc", "mse", "top_k_categorical_accuracy", "wobble", "mine"]
    assert metrics("accuracy") == (Accuracy(),)


def test_equal_metrics_hash_equal():
    assert hash(metric("mse")) == hash(metric("mse")) and metric("acc") != metric("accuracy")


def test_a_metric_declares_whether_higher_is_better():
    assert metric("acc").higher_is_better and not metric("mse").higher_is_better


@pytest.mark.parametrize(
    ("identifier", "error", "message"),
    [
        ("acuracy", ValueError, "'acuracy'.*'accuracy'"),
        ("hubber", ValueError, "'hubber'.*'huber'"),
        ({"name": "precision", "treshold": 1}, ValueError, "'treshold'.*'threshold'"),
        (3, TypeError, "3"),
    ],
)
def test_an_unknown_metric_is_refused(identifier, error, message):
    with pytest.raises(error, match=message):
        metric(identifier)


@pytest.mark.parametrize("given", [["acc", "acc"], [lambda y, p: y, lambda y, p: p]])
def test_two_metrics_of_one_name_are_refused(given):
    with pytest.raises(ValueError, match="two metrics"):
        metrics(given)


def test_a_function_may_return_one_number_for_the_batch():
    mean = metric(lambda y_true, y_pred: jnp.mean(y_pred))
    values = mean(jnp.zeros(4), jnp.arange(4.0))
    assert values.shape == (4,) and mean.finish(values.sum(), 4) == 1.5


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"binary_accuracy.*\(11, 3\).*\(11, 6\)"):
        metric("binary_accuracy")(BITS, SCORES)
    with pytest.raises(ValueError, match=r"accuracy.*\(3,\).*\(11, 6\)"):
        metric("accuracy")(LABELS[:3], SCORES)
