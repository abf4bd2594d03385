"""TimeDistributed: the inner layer at each step, masks, training, and files."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.contract.display import summary
from jaxconv.files.loading import load_layer, load_model
from tests.support.catalogue import inputs, randomised
from tests.support.keras_files import layer, sequential, write_hdf5, write_keras
from tests.support.keras_oracle import keras, keras_rules

KEY = jax.random.key(0)
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)  # Keras
L = keras.layers


def made(inside, shape, **options):
    one = jc.TimeDistributed(inside, **options)
    params, apply_fn = one.init(KEY, shape)
    return randomised(params), apply_fn, inputs(shape)


def test_a_mask_of_steps_passes_two_levels():
    params, apply_fn, x = made(jc.TimeDistributed(jc.Dense(2)), (2, 3, 4, 5))
    mask = jnp.array([[True, True, False], [True, False, False]])
    y, effects = apply_fn.forward(params, x, mask=mask)
    kernel, bias = (params["layer"]["layer"][leaf] for leaf in ("kernel", "bias"))
    expected = np.einsum("btsc,cf->btsf", np.asarray(x, np.float64), np.asarray(kernel, np.float64)) + np.asarray(bias)
    np.testing.assert_allclose(y[mask], expected[np.asarray(mask)], rtol=1e-5, atol=1e-6)
    assert (effects.mask == mask).all()


@pytest.mark.few(1)
@pytest.mark.parametrize("first", [False, True], ids=["last", "first"])
def test_each_step_equals_the_layer_inside_on_it(first):
    inside = jc.Conv2D(3, 2, 2, "same", data_format="channels_first" if first else "channels_last")
    params, apply_fn, x = made(inside, (2, 3, 4, 6, 5))
    y = apply_fn(params, x)
    for step in range(3):
        # float32: a sum of 20 terms, batched otherwise
        np.testing.assert_allclose(y[:, step], inside.apply_fn(params["layer"], x[:, step]), atol=1e-6)


def test_a_layer_without_weights_has_no_params():
    params, apply_fn, x = made(jc.GlobalMaxPooling2D(), (2, 3, 4, 5, 2))
    assert params == {} and apply_fn.split(params) == ({}, {})
    np.testing.assert_array_equal(apply_fn(params, x), x.max((2, 3)))


def test_training_takes_the_statistics_of_all_steps_together():
    params, apply_fn, x = made(jc.BatchNormalization(momentum=0), (4, 3, 2))
    y, effects = apply_fn.forward(params, x, train=True)
    wide = np.asarray(x, np.float64)
    np.testing.assert_allclose(effects.fixed["layer"]["moving_mean"], wide.mean((0, 1)), atol=1e-6)
    np.testing.assert_allclose(effects.fixed["layer"]["moving_variance"], wide.var((0, 1)), rtol=1e-5)
    want = (wide - wide.mean((0, 1))) / np.sqrt(wide.var((0, 1)) + 1e-3)
    gamma, beta = np.asarray(params["layer"]["gamma"]), np.asarray(params["layer"]["beta"])
    np.testing.assert_allclose(y, want * gamma + beta, atol=1e-5)


def test_dropout_differs_between_steps_and_needs_a_key():
    _, apply_fn, _ = made(jc.Dropout(0.5), (2, 50, 40))
    kept = apply_fn.forward({}, jnp.ones((2, 50, 40)), train=True, key=KEY)[0] > 0
    assert len({np.asarray(step).tobytes() for step in kept.reshape(-1, 40)}) == 100
    with pytest.raises(ValueError, match="training draws random numbers and got no key"):
        apply_fn.forward({}, jnp.ones((2, 50, 40)), train=True)


def test_the_activity_penalty_is_that_of_dense_on_the_whole_sequence():
    dense = jc.Dense(3, activity_regularizer="l2", kernel_regularizer="l1")
    params, apply_fn, x = made(dense, (2, 5, 4))
    want = dense.apply_fn.forward(params["layer"], x)[1].penalty
    np.testing.assert_allclose(apply_fn.forward(params, x)[1].penalty, want, rtol=1e-6)
    mask = jnp.arange(5)[None] < jnp.array([[3], [5]])
    want = dense.apply_fn.forward(params["layer"], x, mask=mask)[1].penalty
    np.testing.assert_allclose(apply_fn.forward(params, x, mask=mask)[1].penalty, want, rtol=1e-6)
    np.testing.assert_allclose(apply_fn.penalty(params), dense.apply_fn.penalty(params["layer"]), rtol=1e-6)


@pytest.mark.parametrize("inside", [jc.Conv2D(2, 3), jc.Flatten(), jc.Sequential([jc.Conv2D(2, 3), jc.Flatten()])])
def test_a_mask_of_steps_goes_on_whatever_is_inside(inside):
    params, apply_fn, x = made(inside, (2, 3, 5, 5, 2))
    mask = jnp.array([[True, False, False], [True, True, True]])
    y, effects = apply_fn.forward(params, x, mask=mask)
    np.testing.assert_array_equal(effects.mask, mask)
    real = np.asarray(mask)
    np.testing.assert_allclose(np.asarray(y)[real], np.asarray(apply_fn(params, x))[real], rtol=1e-6)


def test_masked_steps_leave_the_statistics_alone():
    params, apply_fn, x = made(jc.BatchNormalization(momentum=0), (2, 4, 3))
    mask = jnp.arange(4)[None] < jnp.array([[2], [4]])
    effects = apply_fn.forward(params, x, train=True, mask=mask)[1]
    np.testing.assert_allclose(
        effects.fixed["layer"]["moving_mean"], np.asarray(x)[np.asarray(mask)].mean(0), atol=1e-6
    )


def test_sequences_inside_sequences_have_a_mask_of_their_own():
    sentences = jc.Sequential(
        [
            jc.TimeDistributed(jc.Conv1D(3, 2, padding="same"), name="words"),
            jc.TimeDistributed(jc.GlobalMaxPooling1D(), name="sentence"),
            jc.GlobalAveragePooling1D(),
        ]
    )
    x = inputs((2, 3, 4, 2))
    params, apply_fn = sentences.init(KEY, x)
    real = jnp.array([[[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], [[1, 1, 1, 1]] * 3])
    run = jax.jit(apply_fn)
    y = run(params, x, real)
    alone = run(params, x[:1, :2], real[:1, :2])
    np.testing.assert_allclose(y[0], alone[0], atol=1e-6)
    x = x.at[0, 0, 3].set(99).at[0, 1, 1:].set(99).at[0, 2].set(99)
    np.testing.assert_allclose(run(params, x, real), y, atol=1e-6)


def test_invalid_layers_inputs_and_masks_raise():
    with pytest.raises(ValueError, match=r"TimeDistributed: input of shape \(None, 4\) has rank 2; this layer needs"):
        jc.TimeDistributed(jc.Dense(2)).init(KEY, (None, 4))
    with pytest.raises(TypeError, match="TimeDistributed: 3 is not a layer; give one like Conv1D"):
        jc.TimeDistributed(3)
    with pytest.raises(ValueError, match="TimeDistributed, at each step: Conv2D: input of shape"):
        jc.TimeDistributed(jc.Conv2D(2, 3)).init(KEY, (None, 4, 5, 2))
    with pytest.raises(TypeError, match="TimeDistributed, at each step: Add: takes a list of inputs"):
        jc.TimeDistributed(jc.Add()).init(KEY, (None, 4, 5))
    x = jc.Input((3,))
    with pytest.raises(ValueError, match="TimeDistributed: two has several outputs; wrap a layer with one"):
        jc.TimeDistributed(jc.Model(x, [jc.Dense(2)(x), jc.Dense(2)(x)], name="two"))
    params, apply_fn, x = made(jc.Dense(2), (2, 3, 4))
    with pytest.raises(ValueError, match=r"mask of shape \(2,\) does not fit input of shape \(2, 3, 4\)"):
        apply_fn(params, x, jnp.ones(2, bool))
    with pytest.raises(ValueError, match=r"TimeDistributed: params has \['kernel'\]; this layer needs \['layer'\]"):
        apply_fn({"kernel": 1}, x)


def test_policy_and_trainable_hold_inside():
    one = jc.TimeDistributed(jc.Dense(2), trainable=False, dtype="mixed_bfloat16")
    assert (one.layer.dtype, one.layer.trainable) == ("mixed_bfloat16", False)


def test_multiply_adds_and_receptive_field():
    model = jc.Sequential([jc.TimeDistributed(jc.Conv2D(4, 3)), jc.TimeDistributed(jc.Sequential([jc.Dense(2)]))])
    rows = summary(model, (None, 5, 8, 8, 3))
    assert [row.multiply_adds for row in rows[1:]] == [5 * 36 * 9 * 3 * 4, 5 * 36 * 4 * 2]
    assert [field and field.size for field in rows[1].fields] == [1, 3, 3, None]
    assert jc.TimeDistributed(jc.Dense(2)).multiply_adds((None, None, 3)) is None


def test_normalizations_fold_and_dropout_goes_at_inference():
    inside = [jc.Conv2D(4, 3), jc.BatchNormalization(), jc.Activation("relu"), jc.Dropout(0.5), jc.Dense(2)]
    model = jc.Sequential([jc.TimeDistributed(one) for one in inside])
    x = inputs((2, 3, 5, 5, 2))
    params = randomised(model.init(KEY, x)[0])
    small, less = jc.optimize(model, params)
    assert [type(one.layer).__name__ for one in small.layers] == ["Conv2D", "Activation", "Dense"]
    np.testing.assert_allclose(small.apply_fn(less, x), model.apply_fn(params, x), rtol=1e-5, atol=1e-5)
    steps = jc.Sequential([jc.TimeDistributed(jc.Conv1D(3, 1)), jc.BatchNormalization(1)])
    params = steps.init(KEY, (2, 3, 4, 2))[0]
    assert len(jc.optimize(steps, params)[0].layers) == 2  # a scale of each step goes into no layer inside


def test_it_is_exported_for_any_batch_and_time():
    params, apply_fn, x = made(jc.Conv2D(3, 2), (2, 3, 4, 5, 2))
    batch, time = jax.export.symbolic_shape("b, t")
    exported = jax.export.export(jax.jit(apply_fn))(params, jax.ShapeDtypeStruct((batch, time, 4, 5, 2), jnp.float32))
    np.testing.assert_allclose(exported.call(params, x), apply_fn(params, x), atol=1e-6)


# -- files


def film():
    frames = keras.Sequential([L.Input((6, 6, 4)), L.Conv2D(2, 3), L.BatchNormalization(), L.Flatten(), L.Dense(3)])
    clip = keras.Input((3, 6, 6, 4))
    inner = keras.Model(one := keras.Input((3,)), L.Concatenate()([L.Dense(2)(one), one]))
    y = L.TimeDistributed(L.Conv2D(4, 3, padding="same", activation="relu"))(clip)
    y = L.TimeDistributed(L.BatchNormalization())(y)
    y = L.TimeDistributed(L.MaxPooling2D(1))(y)
    y = L.TimeDistributed(inner)(L.TimeDistributed(frames)(y))
    return keras.Model(clip, L.TimeDistributed(L.Dense(2))(y))


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_what_keras_wrote_computes_the_same_and_goes_back(ending, tmp_path):
    rng = np.random.default_rng(0)
    with keras_rules():
        net = film()
        for variable in net.weights:
            value = rng.normal(0, 0.5, variable.shape)
            variable.assign(np.abs(value) + 0.5 if "variance" in variable.path else value)
        net.save(tmp_path / f"net{ending}")
        x = rng.normal(size=(2, 3, 6, 6, 4)).astype(np.float32)
        want = np.asarray(net(x))
    net, params = load_layer(tmp_path / f"net{ending}")
    np.testing.assert_allclose(net.apply_fn(params, x), want, atol=1e-5)
    jc.save_model(tmp_path / "again.keras", net, params)
    with keras_rules():
        np.testing.assert_allclose(keras.saving.load_model(tmp_path / "again.keras")(x), want, atol=1e-5)


@pytest.mark.parametrize("version", ["1.2.2", "2.2.4"])
def test_older_files(version, tmp_path):
    kernel = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    dense = {"output_dim": 3, "init": "uniform"} if version[0] == "1" else {"units": 3}
    inside = layer("Dense", "d", **dense, activation="linear")
    config = sequential(layer("TimeDistributed", "t", layer=inside, batch_input_shape=[None, 5, 4], trainable=True))
    names = ("t_W", "t_b") if version[0] == "1" else ("t/kernel:0", "t/bias:0")
    weights = {"t": list(zip(names, (kernel, np.ones(3)), strict=True))}
    params, apply_fn = load_model(write_hdf5(tmp_path / "m.h5", config, weights, version))
    x = np.random.default_rng(1).normal(size=(2, 5, 4)).astype(np.float32)
    np.testing.assert_allclose(apply_fn(params, x), x @ kernel + 1, atol=1e-6)


def test_a_layer_around_cells_is_refused_by_name_with_the_ways_past(tmp_path):
    config = sequential(layer("RNN", "r", batch_input_shape=[None, 5, 4], cell=layer("StackedRNNCells", "c")))
    with pytest.raises(jc.FileError, match=r"layer 'r': .*RNN.*custom_layers=.*RNN"):
        load_model(write_hdf5(tmp_path / "m.h5", config, {}, "2.9.0"))


def test_what_is_wrong_inside_is_named(tmp_path):
    config = sequential(layer("TimeDistributed", "t", layer=layer("Own", "o"), batch_input_shape=[None, 5, 4]))
    with pytest.raises(jc.FileError, match="layer 'o': there is no layer 'Own' here"):
        load_model(write_keras(tmp_path / "m.keras", config, {}))
    params, apply_fn = load_model(
        write_keras(tmp_path / "m.keras", config, {}), custom_layers={"Own": lambda config: jc.Activation("relu")}
    )
    assert params == {} and apply_fn.layer.layers[0].layer == dataclasses.replace(jc.Activation("relu"), name="o")
