"""Masks in models and training, compared with separate sequences and with Keras."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxconv as jc
from jaxconv.contract import merge
from jaxconv.training import evaluate, fit
from jaxconv.training.losses import loss
from jaxconv.training.metrics import metrics
from jaxconv.training.step import eval_step, init_state, train_step
from jaxconv.training.terms import metric_values
from tests.support.catalogue import inputs, randomised
from tests.support.keras_oracle import keras, keras_rules

KEY = jax.random.key(0)
LENGTHS = (9, 4, 6)
L = keras.layers


def tcn():
    def block(filters, rate):
        convs = [jc.Conv1D(filters, 3, padding="causal", dilation_rate=rate, activation="tanh") for _ in range(2)]
        return jc.Residual(convs, shortcut=jc.Conv1D(filters, 1))

    return jc.Sequential([jc.Masking(), block(4, 1), block(4, 2), jc.InstanceNormalization(), jc.Dense(2)])


def squeeze_and_excite():
    x = jc.Input((None, 3))
    h = jc.Conv1D(4, 3, 2, "same", activation="relu")(jc.Masking()(x))
    gate = jc.Dense(4, "sigmoid")(jc.GlobalAveragePooling1D(keepdims=True)(h))
    both = jc.Concatenate()([jc.Multiply()([h, gate]), jc.MaxPooling1D(3, 1, "same")(h)])
    return jc.Model(x, {"steps": jc.Conv1D(2, 2)(both), "whole": jc.GlobalMaxPooling1D()(both)})


def padded(lengths=LENGTHS, channels=3):
    """Return sequences of these lengths, padded with zeros, and each alone."""
    x = inputs((len(lengths), max(lengths), channels))
    alone = [x[i : i + 1, :n] for i, n in enumerate(lengths)]
    return jnp.where(jnp.arange(max(lengths))[None, :, None] < jnp.array(lengths)[:, None, None], x, 0.0), alone


@pytest.mark.slow
@pytest.mark.parametrize("make", [tcn, squeeze_and_excite])
def test_a_model_on_a_padded_batch_is_the_model_on_each_sequence(make):
    model, (x, alone) = make(), padded()
    params, apply_fn = model.init(KEY, (None, None, 3))
    params = randomised(params)
    y, effects = jax.jit(apply_fn.forward)(params, x)
    run = jax.jit(apply_fn)
    ys, masks = (y, effects.mask) if isinstance(y, dict) else ({"steps": y}, {"steps": effects.mask})
    for row, own in enumerate(alone):
        want = run(params, own)
        for name, one in (want if isinstance(want, dict) else {"steps": want}).items():
            got = ys[name][row] if masks[name] is None else ys[name][row][masks[name][row]]
            np.testing.assert_allclose(got, one[0], rtol=1e-4, atol=1e-5)  # some hundred roundings of float32


def test_a_model_takes_masks_in_the_structure_of_its_inputs():
    one, two = jc.Input((3, 2), name="one"), jc.Input((3, 2), name="two")
    model = jc.Model([one, two], [jc.Add()([one, two]), jc.Concatenate(1)([one, two])])
    x, mask = jnp.ones((1, 3, 2)), jnp.array([[True, True, False]])
    both = model.apply_fn.forward({}, [x, x], mask=[mask, None])[1].mask
    assert both[0] is None and both[1].tolist() == [[True, True, False, True, True, True]]
    by_name = model.apply_fn.forward({}, {"one": x, "two": x}, mask={"one": mask, "two": mask})[1].mask
    assert by_name[0].tolist() == mask.tolist()
    with pytest.raises(ValueError, match=r"takes a list of 2 inputs, \['one', 'two'\]; got a "):
        model.apply_fn({}, [x, x], mask)


def test_wrappers_pass_masks_on():
    x, _ = padded()
    model = jc.Sequential([jc.Masking(), jc.WeightNormalization(jc.Conv1D(2, 3)), jc.Sequential([])])
    params, apply_fn = model.init(KEY, x)
    assert jax.jit(apply_fn.forward)(params, x)[1].mask.sum(1).tolist() == [n - 2 for n in LENGTHS]


# -- training


def steps_model():
    inside = [jc.Masking(), jc.Conv1D(4, 3, padding="same", activation="tanh"), jc.LayerNormalization(), jc.Dense(2)]
    return jc.Sequential(inside)


def test_a_step_on_padded_sequences_is_the_step_on_each_with_matching_weights():
    x, alone = padded()
    target = inputs((3, 9, 2), 7)
    spoilt = jnp.where((jnp.arange(9)[None] < jnp.array(LENGTHS)[:, None])[..., None], target, jnp.nan)
    params, apply_fn = steps_model().init(KEY, x)
    mse, sgd = loss("mse"), optax.sgd(1.0)
    state = init_state(apply_fn, params, sgd)
    after, sums = jax.jit(train_step(apply_fn, mse, sgd))(state, x, spoilt, None)

    def one_by_one(trainable):
        parts = [
            mse(target[i : i + 1, :n], apply_fn(merge(trainable, state.fixed), own))[0] * n
            for i, (n, own) in enumerate(zip(LENGTHS, alone, strict=True))
        ]
        return sum(parts) / sum(LENGTHS)

    value, gradient = jax.jit(jax.value_and_grad(one_by_one))(state.trainable)
    assert float(sums["loss"] / sums["count"]) == pytest.approx(float(value), rel=1e-5)
    assert float(sums["count"]) == sum(LENGTHS)
    moved = jax.tree.map(lambda a, b: a - b, state.trainable, after.trainable)
    for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(gradient), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_figures_over_real_steps_do_not_depend_on_the_batches():
    x, _ = padded((9, 4, 6, 1, 8))
    y = np.random.default_rng(0).integers(0, 2, (5, 9))
    model = jc.Sequential([*steps_model().layers, jc.Softmax()])
    params, apply_fn = model.init(KEY, x)
    how = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}
    two, five = (evaluate(apply_fn, params, x, y, batch_size=size, **how) for size in (2, 5))
    assert two == pytest.approx(five, rel=1e-6)
    p, mask = np.float64(jax.jit(apply_fn)(params, x)), np.asarray(x).any(-1)
    assert five["accuracy"] == pytest.approx((p.argmax(-1) == y)[mask].mean(), rel=1e-6)
    losses = -np.log(np.take_along_axis(p, y[..., None], -1)[..., 0][mask])
    assert five["loss"] == pytest.approx(losses.mean(), rel=1e-5)


def test_a_batch_of_padding_alone_has_no_loss_and_changes_nothing():
    params, apply_fn = steps_model().init(KEY, (None, 5, 3))
    state = init_state(apply_fn, params, optax.sgd(1.0))
    step = jax.jit(train_step(apply_fn, loss("mse"), optax.sgd(1.0), metrics("mae")))
    after, sums = step(state, jnp.zeros((2, 5, 3)), jnp.ones((2, 5, 2)), None)
    assert (float(sums["loss"]), float(sums["count"]), float(sums["mae"])) == (0, 0, 0)
    assert all(bool((a == b).all()) for a, b in zip(*map(jax.tree.leaves, (after.params, state.params)), strict=True))


def test_training_goes_on_where_a_mask_was_used_up():
    x, _ = padded((9, 4, 6, 2))
    model = jc.Sequential([jc.Masking(), jc.Conv1D(4, 3), jc.GlobalMaxPooling1D(), jc.Dense(1)])
    params, apply_fn = model.init(KEY, x)
    y = np.float32((*LENGTHS, 2))[:, None] / 9
    history = fit(apply_fn, params, x, y, loss="mse", metrics=(), epochs=20, batch_size=2).history
    assert history[-1]["loss"] < history[0]["loss"]


@pytest.mark.parametrize(
    "made, target, message",
    [
        (loss("mse"), (2, 2), r"the targets of shape \(2, 2\) does not have the steps of the output mask, \(2, 5\)"),
        (lambda y, p: jnp.mean(p), (2, 5, 2), r"shape \(\) for 10"),
    ],
)
def test_what_cannot_leave_masked_steps_out_raises(made, target, message):
    params, apply_fn = steps_model().init(KEY, (None, 5, 3))
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(eval_step(apply_fn, made), params, jnp.ones((2, 5, 3)), jnp.ones(target))


def test_an_output_with_channels_before_steps_is_refused_by_the_step():
    layer = jc.Sequential([jc.Masking(), jc.Permute((2, 1))])
    first = jc.UpSampling1D(1, data_format="channels_first")
    masked = lambda p, x, **_: first.apply_fn.forward(p, x, mask=jnp.ones((2, 5), bool))  # noqa: E731
    apply_fn = type("Masked", (), {"forward": staticmethod(masked), "penalty": staticmethod(layer.apply_fn.penalty)})
    with pytest.raises(ValueError, match=r"the output of shape \(2, 3, 5\) does not have the steps"):
        eval_step(apply_fn, loss("mse"))({}, jnp.ones((2, 3, 5)), jnp.ones((2, 3, 5)))


# -- Keras


def masking_graph():
    x = keras.Input((5, 3))
    h = L.BatchNormalization(momentum=0.5)(L.Dense(3)(L.Masking()(x)))
    side = L.Dense(3, activation="tanh")(h)
    return keras.Model(x, L.Multiply()([L.Maximum()([L.Add()([side, h]), side]), h]))


def embedding_graph():
    x = keras.Input((5,), dtype="int32")
    h = L.Embedding(4, 3, mask_zero=True)(x)
    h = L.LayerNormalization()(L.Concatenate(axis=1)([h, h]))
    return keras.Model(x, L.GlobalAveragePooling1D()(h))


def twin(model):
    """Return jaxconv's model of a Keras model, with its weights."""
    mine = jc.Model.from_config(json.loads(json.dumps(model.get_config())))
    params, apply_fn = mine.init(KEY)
    weights = {name: {w.name: jnp.asarray(w.value) for w in model.get_layer(name).weights} for name in params}
    return jax.tree.map(lambda _, w: w, params, weights), apply_fn


@pytest.mark.parametrize("make", [masking_graph, embedding_graph])
@pytest.mark.parametrize("train", [False, True])
def test_keras_graphs_with_masks_give_its_values_and_masks(make, train):
    rng = np.random.default_rng(1)
    with keras_rules():
        model = make()
        x = rng.integers(0, 4, (3, 5)) if len(model.input_shape) == 2 else np.float32(rng.normal(size=(3, 5, 3)))
        x[0, 3:] = x[1, 2] = 0
        params, apply_fn = twin(model)
        want = model(x, training=train)
        mask = keras.src.backend.get_keras_mask(want)
    y, effects = jax.jit(lambda params, x: apply_fn.forward(params, x, train=train))(params, x)
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-5)
    assert (mask is None) == (effects.mask is None)
    if mask is not None:
        np.testing.assert_array_equal(effects.mask, mask)


def test_loss_and_metrics_are_those_of_keras_on_a_masked_output():
    rng = np.random.default_rng(2)
    x, y = np.float32(rng.normal(size=(4, 6, 3))), rng.integers(0, 3, (4, 6), np.int32)
    x[0, 4:] = x[1, 1:] = x[3, 2] = 0
    with keras_rules():
        inside = keras.Input((6, 3))
        model = keras.Model(inside, L.Dense(3, activation="softmax")(L.Masking()(inside)))
        model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        want = model.evaluate(x, y, verbose=0, return_dict=True)
        params, apply_fn = twin(model)
    chosen = metrics("accuracy")
    sums = jax.jit(eval_step(apply_fn, loss("sparse_categorical_crossentropy"), chosen))(params, x, y)
    assert metric_values(sums, chosen) == pytest.approx(want, rel=1e-5)


def test_a_mask_that_a_keras_graph_passes_itself_is_refused():
    with keras_rules():
        x, mask = keras.Input((5, 3)), keras.Input((5,), dtype="bool")
        config = keras.Model([x, mask], L.BatchNormalization()(x, mask=mask)).get_config()
    with pytest.raises(ValueError, match=r"the layer is called with \{'mask'"):
        jc.Model.from_config(json.loads(json.dumps(config)))
