"""Optimizers and schedules by name: all of optax, Keras's clipping, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxconv.training.optimizers import learning_rate, optimizer, optimizers, schedule, schedules
from jaxconv.training.step import TrainState, train_step

PARAMS = {"a": {"kernel": jnp.full((3, 2, 4), 0.1), "bias": jnp.zeros(4), "mean": None}, "b": None}


class Quadratic:
    """An apply_fn without a layer: its output is a quadratic function of the weights."""

    def forward(self, params, x, train=False, key=None):
        from jaxconv.contract import Effects

        kernel, bias = params["a"]["kernel"], params["a"]["bias"]
        y = jnp.square(kernel).sum() + jnp.square(bias - 1).sum()
        return y * x, Effects(
            {"a": {"kernel": None, "bias": None, "mean": params["a"]["mean"]}, "b": params["b"]}, y * 0
        )

    def penalty(self, params):
        return jnp.zeros(())

    def project(self, params):
        return params

    def split(self, params):
        return {**params, "a": {**params["a"], "mean": None}, "b": None}, None


# one of each kind: without a rate, with a key, with the value of the loss, with a line search
USUAL = ("adam", "sgd", "adafactor", "noisy_sgd", "polyak_sgd", "lbfgs")


def descend(transformation, steps=30):
    step = jax.jit(train_step(Quadratic(), lambda y, p: p, transformation))
    with jax.numpy_dtype_promotion("standard"):
        opt_state = transformation.init(PARAMS)
    fixed = {"a": {"kernel": None, "bias": None, "mean": jnp.zeros(4)}, "b": jnp.zeros(1)}
    state, losses = TrainState(PARAMS, fixed, opt_state), []
    for _ in range(steps):
        state, sums = step(state, jnp.full(1, 0.1), jnp.zeros(1), None)
        losses.append(float(sums["loss"]))
    return state, losses


@pytest.mark.few(2)
@pytest.mark.filterwarnings("ignore:`optimistic_adam` is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in USUAL else pytest.mark.slow) for name in sorted(optimizers())],
)
def test_every_optimizer_of_optax_decreases_the_loss_with_its_defaults(name):
    _, losses = descend(optimizer(name))
    assert np.isfinite(losses).all() and losses[-1] < losses[0]


def test_the_common_names_are_available():
    names = {"adam", "adamw", "sgd", "rmsprop", "nadam", "adamax", "adagrad", "adadelta", "adafactor", "lion", "lamb"}
    assert names | {"muon", "lbfgs", "polyak_sgd", "radam", "lars"} <= set(optimizers())


def test_a_spec_equals_the_optimizer_of_optax():
    named = optimizer({"name": "AdamW", "learning_rate": 0.1, "weight_decay": 0.3, "beta_1": 0.5, "epsilon": 1e-3})
    by_hand = optax.adamw(0.1, b1=0.5, eps=1e-3, weight_decay=0.3)
    for a, b in zip(jax.tree.leaves(descend(named, 3)), jax.tree.leaves(descend(by_hand, 3)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_transformation_is_used_unchanged():
    assert descend(optimizer(optax.sgd(0.1)), 3)[1] == descend(optimizer({"name": "sgd", "learning_rate": 0.1}), 3)[1]


def test_transformations_that_need_the_loss_get_it():
    chain = optax.chain(optax.sgd(0.05), optax.contrib.reduce_on_plateau(factor=0.5, patience=2, rtol=1.0))
    _, losses = descend(optax.with_extra_args_support(chain), 20)
    assert losses[-1] < losses[0]


def test_default_rates_are_keras_s_if_optax_has_none():
    assert learning_rate("sgd")(0) == 0.01 and learning_rate("adam")(5) == 0.001
    assert learning_rate("prodigy")(0) == 1.0  # optax's own
    assert learning_rate("adadelta")(0) == 1.0  # its paper's
    assert learning_rate("adafactor") is None and learning_rate(optax.adam(0.1)) is None


@pytest.mark.parametrize(
    ("clip", "expected"),
    [
        ({"clipvalue": 2.0}, ([2.0, 2.0], [1.0])),
        ({"clipnorm": 1.0}, ([0.6, 0.8], [1.0])),
        ({"clipnorm": 10.0}, ([3.0, 4.0], [1.0])),
        ({"global_clipnorm": float(np.sqrt(26)) / 2}, ([1.5, 2.0], [0.5])),
    ],
)
def test_clipping_equals_keras(clip, expected):
    gradients = {"k": jnp.array([3.0, 4.0]), "b": jnp.array([1.0]), "none": None}
    made = optimizer({"name": "sgd", "learning_rate": 1.0, **clip})
    updates, _ = made.update(gradients, made.init(gradients), gradients)
    np.testing.assert_allclose(updates["k"], -np.array(expected[0]), rtol=1e-6)  # float32
    np.testing.assert_allclose(updates["b"], -np.array(expected[1]), rtol=1e-6)


@pytest.mark.parametrize("kind", ["clipnorm", "global_clipnorm"])
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("size", [1e-4, 600.0])  # float16 cannot represent the square of either
def test_the_norm_of_gradients_in_half_precision_is_computed_in_float32(kind, dtype, size):
    gradient = jnp.asarray(size * np.random.default_rng(0).normal(size=3000), dtype)
    exact = np.asarray(gradient, np.float64)
    limit = 0.5 * float(np.linalg.norm(exact))
    made = optimizer({"name": "sgd", "learning_rate": 1.0, kind: limit})
    (updates,), _ = made.update([gradient], made.init([gradient]), [gradient])
    assert updates.dtype == dtype
    # two roundings to the dtype; the smallest are subnormal
    np.testing.assert_allclose(
        np.asarray(updates, np.float64), -0.5 * exact, rtol=2 * float(jnp.finfo(dtype).eps), atol=1.2e-7
    )


def test_clipping_zero_gradients_gives_zero():
    made = optimizer({"name": "sgd", "clipnorm": 1.0})
    gradients = {"k": jnp.zeros(3)}
    assert not np.any(made.update(gradients, made.init(gradients), gradients)[0]["k"])


def test_every_schedule_of_optax_is_available_with_and_without_its_suffix():
    for name in [n for n in dir(optax) if n.endswith("_schedule") and n != "scale_by_schedule"]:
        assert schedules()[name] is schedules()[name.removesuffix("_schedule")] is getattr(optax, name)
    assert schedules()["exponential_decay"] is optax.exponential_decay


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (0.5, {0: 0.5, 100: 0.5}),
        ({"name": "cosine_decay", "init_value": 1.0}, {0: 1.0, 50: 0.5, 100: 0.0}),
        ({"name": "cosine_decay", "init_value": 1.0, "decay_steps": 10}, {5: 0.5, 10: 0.0}),
        ({"name": "linear", "init_value": 1.0, "end_value": 0.0}, {25: 0.75, 100: 0.0}),
        (
            {"name": "warmup_cosine_decay_schedule", "init_value": 0.0, "peak_value": 1.0, "warmup_steps": 10},
            {5: 0.5, 10: 1.0, 100: 0.0},
        ),
        (
            {"name": "piecewise_constant", "init_value": 1.0, "boundaries_and_scales": {"10": 0.1, "20": 0.5}},
            {9: 1.0, 11: 0.1, 21: 0.05},
        ),
        (
            {"name": "join_schedules", "boundaries": [10], "schedules": [0.1, {"name": "constant", "value": 0.2}]},
            {9: 0.1, 10: 0.2},
        ),
    ],
)
def test_schedules_without_a_length_have_that_of_the_whole_run(spec, expected):
    rate = learning_rate({"name": "adam", "learning_rate": spec}, steps=100)
    for step, value in expected.items():
        assert rate(step) == pytest.approx(value, abs=1e-6)  # float32


def test_a_schedule_drives_the_optimizer():
    spec = {
        "name": "sgd",
        "learning_rate": {"name": "piecewise_constant", "init_value": 1.0, "boundaries_and_scales": {2: 0}},
    }
    made = optimizer(spec)
    state, seen = made.init({"k": jnp.ones(1)}), []
    for _ in range(4):
        with jax.numpy_dtype_promotion("standard"):  # optax relies on it
            updates, state = made.update({"k": jnp.ones(1)}, state, {"k": jnp.ones(1)})
        seen.append(float(updates["k"][0]))
    assert seen == [-1, -1, 0, 0]


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("adm", ValueError, "'adm'.*'adam'"),
        ("dpsgd", ValueError, "'dpsgd'.*training step of your own"),
        ("galore", ValueError, "'galore'.*pass the optax object"),
        ({"learning_rate": 1}, ValueError, "'name'"),
        (3, TypeError, "3"),
        (optax.adam, TypeError, r"<function adam.*optax.adam\(1e-3\)"),
        ({"name": "adam", "learning_rat": 1}, ValueError, "'learning_rat'.*'learning_rate'"),
        (
            {"name": "adam", "learning_rate": -1},
            ValueError,
            "learning_rate is -1.*at least 0",
        ),
        ({"name": "adam", "learning_rate": float("nan")}, ValueError, "learning_rate is nan"),
        ({"name": "adam", "learning_rate": "fast"}, TypeError, "learning_rate is 'fast', of type str; give a number"),
        ({"name": "adam", "learning_rate": {"name": "cosine"}}, ValueError, "'cosine_"),
        (
            {"name": "adam", "learning_rate": {"name": "cosine_decay"}},
            ValueError,
            "cosine_decay.*init_value, decay_steps",
        ),
        ({"name": "adam", "clipnorm": 1, "clipvalue": 2}, ValueError, "clipnorm and clipvalue"),
        ({"name": "adam", "clipnorm": 0}, ValueError, "clipnorm is 0"),
        ({"name": "adamw", "mu_dtype": "float33"}, ValueError, "adamw.*mu_dtype='float33'"),
    ],
)
def test_an_invalid_spec_is_refused(spec, error, message):
    with pytest.raises(error, match=message):
        optimizer(spec)


def test_a_callable_is_a_schedule():
    assert schedule(abs)(-3) == 3
