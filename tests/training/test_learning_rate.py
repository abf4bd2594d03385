"""The learning-rate range test: gradient descent on a quadratic in NumPy, the batches of fit, divergence, the plot."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxconv.layers.dense import Dense
from jaxconv.layers.dropout import Dropout
from jaxconv.models import Sequential
from jaxconv.training.fit import fit
from jaxconv.training.learning_rate import find_learning_rate
from jaxconv.training.loop import NonFiniteLoss

# mean squares whose Hessian has the eigenvalues 8 and 1: gradient descent is stable up to the rate 2/8
LARGEST = 8.0
X = np.stack([2 * np.tile([1.0, -1.0], 4), np.tile([1.0, 1.0, -1.0, -1.0], 2) / np.sqrt(2)], 1)
BEST = np.array([[1.0], [-1.0]])
Y = X @ BEST
LAYER = Dense(1, use_bias=False, kernel_initializer="zeros")


def search(x=X, y=Y, layer=LAYER, **options):
    params, apply_fn = layer.init(jax.random.key(0), (None, 2))
    return find_learning_rate(apply_fn, params, x, y, **{"loss": "mse", "optimizer": "sgd"} | options)


def descend(rates):
    """Return the losses of gradient descent with these rates, in float64."""
    weights, losses = np.zeros((2, 1)), []
    for rate in rates:
        error = X @ weights - Y
        losses.append((error**2).mean())
        weights = weights - rate * 2 / len(X) * X.T @ error
    return np.array(losses)


def smooth(losses, share):
    """Return the weighted means of the losses up to each, with weights that sum to 1."""
    weights = [share ** np.arange(i + 1)[::-1] for i in range(len(losses))]
    return np.array([(w * losses[: len(w)]).sum() / w.sum() for w in weights])


@pytest.mark.parametrize("smoothing", [0.0, 0.9])
def test_on_a_quadratic_the_stability_limit_lies_between_suggestion_and_divergence(smoothing):
    found = search(smoothing=smoothing)
    np.testing.assert_allclose(found.rates, 10.0 ** (-7 + 8 * np.arange(len(found.rates)) / 99), rtol=1e-6)
    stable = found.rates < 2 / LARGEST  # beyond, rounding errors grow
    expected = descend(found.rates[stable])
    np.testing.assert_allclose(found.losses[stable], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.smoothed, smooth(found.losses, smoothing), rtol=1e-9)
    steepest = found.rates[np.argmin(np.gradient(expected))]
    assert 0.5 * steepest < found.suggestion < 1.1 * steepest  # the averages do not lag
    assert 0.05 / LARGEST < found.suggestion < 1 / LARGEST
    assert 2 / LARGEST < found.rates[-1] < 10
    smallest = found.smoothed[10:].min()
    assert found.smoothed[-1] > 4 * smallest and found.smoothed[10:-1].max() <= max(found.smoothed[10], 4 * smallest)


def least_squares(rng, noise):
    """Return inputs, targets, the loss, and the best safe rate: 1 / (largest curvature)."""
    x = rng.normal(size=(256, 2)) * [2.0, 0.7]
    y = x @ BEST + noise * rng.normal(size=(256, 1))
    return x, y, "mse", 1 / np.linalg.eigvalsh(2 * x.T @ x / len(x)).max()


def logistic_regression(rng):
    x = rng.normal(size=(256, 2)) * [2.0, 0.7]
    y = (x @ BEST + rng.normal(size=(256, 1)) > 0).astype(np.float32)
    loss = {"name": "binary_crossentropy", "from_logits": True}
    return x, y, loss, 1 / np.linalg.eigvalsh(x.T @ x / len(x) / 4).max()


@pytest.mark.few(1)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("problem", ["least squares", "noisy least squares", "logistic regression"])
def test_the_suggestion_is_below_the_best_rate_and_near_it(problem, seed):
    rng = np.random.default_rng(seed)
    x, y, loss, best = (
        logistic_regression(rng) if problem.startswith("log") else least_squares(rng, 1.0 * problem.startswith("noisy"))
    )
    params, apply_fn = LAYER.init(jax.random.key(0), (None, 2))
    for scale in (1.0, 4.0):  # inputs 4 times as large: rates 16 times smaller
        found = find_learning_rate(
            apply_fn, params, scale * x, y, loss=loss, optimizer="sgd", batch_size=16, seed=seed
        ).suggestion * scale**2  # fmt: skip
        assert best / 40 < found < best, (found / best, scale)


def test_the_batches_are_those_of_fit_pass_after_pass():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 2)), rng.normal(size=(20, 1))
    options = {"loss": "mse", "batch_size": 4, "seed": 3, "clip_norm": 0.5}
    found = search(x, y, optimizer={"name": "adam", "learning_rate": 7.0}, lowest=1e-3, highest=1, steps=10, **options)
    rates = jnp.asarray(np.geomspace(1e-3, 1, 10))
    params, apply_fn = LAYER.init(jax.random.key(0), (None, 2))
    adam = {"name": "adam", "learning_rate": lambda step: rates[step]}
    history = fit(apply_fn, params, x, y, optimizer=adam, epochs=2, **options).history
    np.testing.assert_allclose(found.losses.reshape(2, 5).mean(1), [log["loss"] for log in history], rtol=1e-6)


@pytest.mark.slow
def test_params_are_unchanged_and_the_seed_determines_the_numbers():
    layer = Sequential([Dropout(0.5), Dense(1)])
    params, apply_fn = layer.init(jax.random.key(0), (None, 2))
    before = jax.tree.map(np.array, params)
    runs = [
        find_learning_rate(apply_fn, params, X, Y, loss="mse", batch_size=2, steps=6, seed=seed) for seed in (0, 0, 1)
    ]
    jax.tree.map(np.testing.assert_array_equal, params, before)
    np.testing.assert_array_equal(runs[0].losses, runs[1].losses)
    assert runs[0].suggestion == runs[1].suggestion
    assert not np.array_equal(runs[0].losses[:5], runs[2].losses[:5])


@pytest.mark.slow
def test_a_loader_and_an_optax_factory_give_the_same_numbers():
    expected = search()
    shuffled = np.random.default_rng([0, 0]).permutation(8)

    def endless():
        while True:
            yield X[shuffled], Y[shuffled]

    for x in ([(X[shuffled], Y[shuffled])], endless()):
        found = search(x, None, optimizer=optax.sgd)
        np.testing.assert_allclose(found.losses[:60], expected.losses[:60], rtol=1e-4)


def test_a_loss_that_never_falls_has_no_suggestion():
    above = search(lowest=4 / LARGEST, highest=1e3)
    assert above.suggestion is None and len(above.rates) < 100
    constant = search(y=np.zeros((8, 1)))
    assert constant.suggestion is None and len(constant.rates) == 100
    beyond = search(lowest=1e15, highest=1e30)
    assert beyond.suggestion is None and len(beyond.rates) < 10 and np.isfinite(beyond.losses).all()


def test_negative_losses_and_a_small_first_batch_do_not_end_the_test():
    def shifted(y_true, y_pred):
        return ((y_true - y_pred) ** 2)[:, 0] - 2.0

    found = search(loss=shifted)
    assert 0.05 / LARGEST < found.suggestion < 2 / LARGEST < found.rates[-1] < 10
    assert len(search([(X, 0.1 * Y), *[(X, Y)] * 99], None, highest=1e-3).rates) == 100


@pytest.mark.parametrize(
    ("options", "error", "facts"),
    [
        ({"lowest": 0.1, "highest": 0.1}, ValueError, "lowest.*0.1.*highest"),
        ({"lowest": 0.0}, ValueError, "lowest.*above 0"),
        ({"highest": np.inf}, ValueError, "highest.*finite"),
        ({"steps": 4}, ValueError, "steps is 4.*5"),
        ({"steps": 7.5}, ValueError, "steps is 7.5"),
        ({"smoothing": 1}, ValueError, "^find_learning_rate: smoothing is 1"),
        ({"batch_size": 0}, ValueError, "^find_learning_rate: batch_size is 0"),
        ({"optimizer": "nosuch"}, ValueError, "nosuch"),
        ({"optimizer": optax.adam(1e-3)}, TypeError, "optax.adam"),
        ({"x": np.full((8, 2), np.nan)}, NonFiniteLoss, "first batch is nan"),
    ],
)
def test_errors_say_what_is_wrong(options, error, facts):
    with pytest.raises(error, match=facts):
        search(**options)


def test_the_plot_shows_losses_and_suggestion():
    found = search(steps=40)
    figure = found.plot()
    [ax] = figure.axes
    batch, smoothed, line = ax.get_lines()
    np.testing.assert_array_equal(batch.get_xydata(), np.stack([found.rates, found.losses], 1))
    np.testing.assert_array_equal(smoothed.get_ydata(), found.smoothed)
    assert ax.get_xscale() == "log" and set(line.get_xdata()) == {found.suggestion}
    assert ax.get_ylim()[1] < 2 * found.smoothed[0]
    FigureCanvasAgg(figure).draw()
    mine = Figure().subplots()
    without = found._replace(suggestion=None)
    assert without.plot(mine) is mine.figure and len(mine.get_lines()) == 2


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    found = search(steps=5)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delitem(sys.modules, "jaxconv.picture", raising=False)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        found.plot()
