"""The base class of layers: construction, init, apply, split and merge, effects, identity under jit."""

import copy
import dataclasses
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis.vendor.pretty import pretty

import jaxconv as jc
from jaxconv import activations
from jaxconv.contract import layers, merge
from tests.support.catalogue import CASES, map_shapes

X = jnp.ones((2, 10, 3))
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


# -- a layer is a value


@every_case
def test_layers_are_values(case):
    layer = case.layer
    for again in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer), dataclasses.replace(layer)):
        assert again == layer and hash(again) == hash(layer)
    assert dataclasses.replace(layer, name="other") != layer
    assert pickle.loads(pickle.dumps(layer.apply_fn)) == layer.apply_fn
    with pytest.raises(dataclasses.FrozenInstanceError):
        layer.name = "other"


def test_all_spellings_of_an_option_give_equal_layers():
    layer = jc.Conv1D(4, 3, activation="relu", kernel_regularizer="l2", dtype="float32", padding="same")
    assert layer == jc.Conv1D(
        np.int64(4),
        [np.int32(3)],
        (1,),
        "SAME",
        "Channels_Last",
        activation=activations.relu,
        kernel_initializer="GlorotUniform",
        kernel_regularizer={"class_name": "L2", "config": {"l2": 0.01}},
        dtype=jnp.float32,
        bias_initializer=None,
    )


def test_replace_validates_again():
    with pytest.raises(ValueError, match="filters=0"):
        dataclasses.replace(jc.Conv1D(4, 3), filters=0)
    assert dataclasses.replace(jc.Conv1D(4, 3), kernel_size=5).kernel_size == (5,)


def test_jit_traces_once_for_equal_layers():
    count = []

    def counted(y):
        count.append(1)
        return y

    first, second = (jc.Conv1D(4, 3, activation=counted).apply_fn for _ in range(2))
    assert first is not second and first == second and hash(first) == hash(second)
    params, _ = jc.Conv1D(4, 3).init(jax.random.key(0), X)
    jax.jit(first)(params, X)
    jax.jit(second)(params, X)
    jax.jit(jc.Conv1D(4, 3, activation=counted).apply_fn)(params, X)
    assert len(count) == 1


def test_apply_fn_needs_no_initializer(key):
    def never(key, shape, dtype):
        raise AssertionError("an initializer ran")

    params, _ = jc.Conv1D(4, 3).init(key, X)
    assert jc.Conv1D(4, 3, kernel_initializer=never).apply_fn(params, X).shape == (2, 8, 4)


# -- init


@pytest.mark.parametrize(
    "given",
    [(2, 10, 3), [None, 10, 3], (None, None, 3), X, np.zeros((2, 10, 3)), jax.ShapeDtypeStruct((2, 10, 3), int)],
)
def test_init_takes_a_shape_an_array_or_a_struct(key, given):
    with jax.enable_x64(False):
        params, _ = jc.Conv1D(4, 3).init(key, given)
    assert params["kernel"].shape == (3, 3, 4)


def test_init_takes_both_kinds_of_key(key):
    old = jc.Conv1D(4, 3).init(jax.random.PRNGKey(0), X)[0]
    np.testing.assert_array_equal(old["kernel"], jc.Conv1D(4, 3).init(key, X)[0]["kernel"])


def test_leaves_and_layers_draw_from_different_keys(key):
    params, _ = jc.Sequential([jc.Dense(3, bias_initializer="uniform"), jc.Dense(3)]).init(key, (None, 3))
    assert not jnp.allclose(params["dense"]["kernel"], params["dense_1"]["kernel"])


@pytest.mark.parametrize("bad", [0, None, "key", jnp.zeros(3), jnp.zeros((2, 2), jnp.uint32)])
def test_init_refuses_what_is_no_key(bad):
    with pytest.raises(TypeError, match=r"Conv1D\.init: the key is .* not a PRNG key; give jax\.random\.key\(0\)"):
        jc.Conv1D(4, 3).init(bad, X)


@pytest.mark.parametrize(
    "shape, kind, message",
    [
        (None, ValueError, r"init needs an input shape; give one like \(None, 128, 16\)"),
        (128, TypeError, "cannot read 128 as a shape"),
        ("abc", TypeError, "cannot read 'abc' as a shape"),
        ((-1, 10, 3), ValueError, r"size -1 in shape \(-1, 10, 3\) is negative"),
        ((2, 10.0, 3), TypeError, r"size 10\.0 in shape .* is neither an integer nor None"),
        ((2, True, 3), TypeError, "size True"),
        ((10, 3), ValueError, r"shape \(10, 3\) has rank 2; this layer needs rank 3: \(batch, time, channels\)"),
        ((None, 10, None), ValueError, "channel count in input shape .* is None; .* give a number"),
        ((None, 10, 0), ValueError, "has 0 channels"),
        ((None, 0, 3), ValueError, "the shortest valid input is 3"),
        ((None, 2, 3), ValueError, r"length 2 is shorter than the effective window 3 .*shortest valid input is 3"),
    ],
)
def test_init_refuses_what_is_no_input(key, shape, kind, message):
    with pytest.raises(kind, match=f"Conv1D.*{message}"):
        jc.Conv1D(4, 3).init(key, shape)


@pytest.mark.parametrize(
    "options, kind, message",
    [
        ({"kernel_initializer": np.ones((3, 3))}, ValueError, r"initializer of kernel.*\(3, 3\).*\(3, 3, 4\)"),
        ({"kernel_initializer": "identity"}, ValueError, "initializer of kernel.*2 axes"),
        ({"kernel_initializer": lambda shape, dtype: 0}, TypeError, r"called with \(key, shape, dtype\).*positional"),
        ({"bias_initializer": lambda k, s, d: jnp.zeros(2)}, ValueError, r"bias.*returned shape \(2,\).* needs \(4,\)"),
        ({"kernel_regularizer": "orthogonal_regularizer"}, ValueError, 'regularizer of kernel.*axis="filter"'),
        (
            {"kernel_regularizer": jnp.abs},
            ValueError,
            r"regularizer of kernel: returned shape \(3, 3, 4\); it must return \(\)",
        ),
        ({"kernel_constraint": jc.constraints.MaxNorm(axis=5)}, ValueError, "constraint of kernel: MaxNorm: axis=5"),
        ({"bias_constraint": jnp.sum}, ValueError, r"constraint of bias: returned shape \(\); it must return \(4,\)"),
    ],
)
def test_what_does_not_fit_the_weights_is_refused_at_init(key, options, kind, message):
    with pytest.raises(kind, match=f"Conv1D: .*{message}"):
        jc.Conv1D(4, 3, **options).init(key, X)


def test_params_have_the_policy_s_type_whatever_the_initializer_gives(key):
    params, _ = jc.Dense(2, kernel_initializer=np.eye(3)[:, :2]).init(key, (None, 3))
    np.testing.assert_array_equal(params["kernel"], np.eye(3)[:, :2])
    assert params["kernel"].dtype == jnp.float32


# -- unknown and wrong options


@pytest.mark.parametrize(
    "options, kind, message",
    [
        ({"kernel": 3}, ValueError, r"unknown argument 'kernel' = 3; did you mean 'kernel_size'\?"),
        ({"stride": 2}, ValueError, r"unknown argument 'stride' = 2; did you mean 'strides'\?"),
        ({"batch_input_shape": (1, 2)}, ValueError, "unknown argument 'batch_input_shape'.*'input_shape'"),
        ({"name": "a/b"}, ValueError, "name='a/b' is not valid; give a non-empty string without '/'"),
        ({"name": ""}, ValueError, "name=''"),
        ({"name": 3}, ValueError, "name=3"),
        ({"trainable": 1}, ValueError, "trainable=1 is not a bool; give True or False"),
        ({"trainable": None}, ValueError, "trainable=None"),
        ({"input_shape": 10}, TypeError, "input_shape: cannot read 10 as a shape"),
        ({"activation": "ReLU"}, ValueError, r"activation: unknown activation 'ReLU'; did you mean 'relu'\?"),
        ({"activation": "threshold"}, ValueError, "activation: .*threshold.* needs two more arguments"),
        ({"activation": 3}, TypeError, "activation: cannot read 3 as activation"),
        ({"activation": jc.Activation("relu")}, TypeError, "activation: it is a layer.*give a function"),
        ({"activation": jc.Flatten}, TypeError, "activation: it is a layer.*give a function"),
        ({"kernel_initializer": "he"}, ValueError, "kernel_initializer: unknown initializer 'he'"),
        ({"bias_initializer": "Zero"}, ValueError, r"bias_initializer: .*did you mean '[zZ]ero"),
        ({"kernel_regularizer": "l3"}, ValueError, "kernel_regularizer: unknown regularizer 'l3'"),
        ({"bias_constraint": "max"}, ValueError, "bias_constraint: unknown constraint 'max'"),
        ({"kernel_constraint": 2.0}, TypeError, "kernel_constraint: cannot read 2.0 as constraint"),
    ],
)
def test_options_that_are_not_valid_are_refused_when_the_layer_is_built(options, kind, message):
    with pytest.raises(kind, match=f"Conv1D: {message}"):
        jc.Conv1D(4, 3, **options)


def test_a_missing_option_is_named():
    with pytest.raises(TypeError, match="kernel_size"):
        jc.Conv1D(4)


def test_a_function_without_a_name_cannot_be_written_to_a_config():
    layer = jc.Conv1D(4, 3, kernel_regularizer=lambda w: w.sum())
    with pytest.raises(ValueError, match="cannot be written to a config because it has no registered name"):
        layer.get_config()


# -- apply


def test_a_layer_is_not_called_but_told_how_to(key):
    with pytest.raises(
        TypeError, match=r"stores no weights and cannot be called on arrays; params, apply_fn = layer\.init"
    ):
        jc.Conv1D(4, 3)(X)


def conv(key):
    return jc.Conv1D(4, 3).init(key, X)


def test_swapped_arguments_are_named(key):
    params, apply_fn = conv(key)
    with pytest.raises(
        ValueError,
        match=r"Conv1D: params .* array of shape \(2, 10, 3\), .* apply_fn\(params, x\); .* \['bias', 'kernel'\]",
    ):
        apply_fn(X, params)


@pytest.mark.parametrize("drop, add", [("bias", None), (None, "gamma")])
def test_missing_and_unknown_leaves_are_refused(key, drop, add):
    params, apply_fn = conv(key)
    params = {k: v for k, v in params.items() if k != drop} | ({add: jnp.ones(3)} if add else {})
    with pytest.raises(ValueError, match=r"Conv1D: params has \[.*\]; this layer needs \['bias', 'kernel'\]"):
        apply_fn(params, X)


def test_params_of_another_kernel_size_are_refused(key):
    params, _ = conv(key)
    with pytest.raises(
        ValueError, match=r"needs a kernel of shape \(5, 3, 4\); these params hold one of shape \(3, 3, 4\)"
    ):
        jc.Conv1D(4, 5).apply_fn(params, X)


def test_another_channel_count_is_refused_under_jit_too(key):
    params, apply_fn = conv(key)
    message = (
        r"Conv1D: input of shape \(2, 10, 2\) needs a kernel of shape \(3, 2, 4\); these params hold .*\(3, 3, 4\)"
    )
    for function in (apply_fn, jax.jit(apply_fn)):
        with pytest.raises(ValueError, match=message):
            function(params, X[..., :2])


@pytest.mark.parametrize("function", ["split", "penalty", "project"])
def test_params_of_another_layer_are_refused_by_the_first_place_that_differs(key, function):
    regular = jc.Sequential([jc.Conv1D(2, 3, kernel_regularizer="l2"), jc.Sequential([jc.Dense(2)], name="head")])
    params, apply_fn = regular.init(key, (None, 8, 3))
    call = getattr(apply_fn, function)
    with pytest.raises(ValueError, match=r"params has \['dense'\]; the layers here are \['conv1d', 'head'\]"):
        call({"dense": params["head"]["dense"]})
    with pytest.raises(ValueError, match=r"conv1d: Conv1D: params has \[\]; this layer needs \['bias', 'kernel'\]"):
        call({"head": params["head"]})
    with pytest.raises(ValueError, match=r"head: dense: Dense: params has \['gamma'\]; this layer needs"):
        call(params | {"head": {"dense": {"gamma": 1}}})
    with pytest.raises(ValueError, match=r"Sequential: params is of type tuple, not a dict"):
        call((params, apply_fn))
    wrapped = jc.TimeDistributed(jc.Dense(2)).init(key, (None, 4, 3))[1]
    with pytest.raises(ValueError, match=r"TimeDistributed: params has \['kernel'\]; this layer needs \['layer'\]"):
        getattr(wrapped, function)({"kernel": 1})
    with pytest.raises(ValueError, match=r"layer: Dense: params has \[\]; this layer needs \['bias', 'kernel'\]"):
        getattr(wrapped, function)({})


@pytest.mark.parametrize("train", ["yes", 1, None, "False"])
def test_train_is_true_or_false(key, train):
    params, apply_fn = jc.Dropout(0.5).init(key, (None, 3))
    with pytest.raises(TypeError, match=rf"Dropout: train={train!r} is not a bool; give True or False"):
        apply_fn.forward(params, jnp.ones((1, 3)), train=train)
    with pytest.raises(jax.errors.TracerBoolConversionError):  # JAX's own error says what to do
        jax.jit(lambda train: apply_fn.forward(params, jnp.ones((1, 3)), train=train))(True)
    assert apply_fn.forward(params, jnp.ones((1, 3)), train=np.bool_(False))[0].sum() == 3


def test_one_part_of_a_split_is_refused(key):
    params, apply_fn = jc.BatchNormalization().init(key, X)
    with pytest.raises(ValueError, match=r"moving_mean of shape .* these params hold None; merge the parts of a split"):
        apply_fn(apply_fn.split(params)[0], X)


@pytest.mark.parametrize("bad, kind", [(None, ValueError), ("text", TypeError), ({"a": 1}, TypeError)])
def test_an_input_that_is_no_array_is_refused(key, bad, kind):
    params, apply_fn = conv(key)
    with pytest.raises(kind, match="Conv1D: the input is not an array of numbers"):
        apply_fn(params, bad)


@pytest.mark.parametrize(
    "x", [np.ones((2, 10, 3), np.int64), np.ones((2, 10, 3), bool), np.ones((2, 10, 3)), X.tolist()]
)
def test_numbers_of_any_real_type_are_cast(key, x):
    params, apply_fn = conv(key)
    y = apply_fn(params, x)
    assert y.dtype == jnp.float32
    np.testing.assert_array_equal(y, apply_fn(params, X))


@pytest.mark.parametrize("layer", [jc.Conv1D(4, 3), jc.Flatten(), jc.MaxPooling1D(2), jc.Dense(2), jc.Dropout(0.5)])
def test_complex_input_is_refused(key, layer):
    params, apply_fn = layer.init(key, X)
    with pytest.raises(TypeError, match=r"got complex input \(complex64\); .* real and imaginary parts as channels"):
        apply_fn(params, X.astype(jnp.complex64))


@pytest.mark.few(6)
@every_case
def test_an_empty_batch_is_valid_at_inference(case):
    params, apply_fn = case.layer.init(jax.random.key(0), case.shape)
    empty = map_shapes(lambda shape: (0, *shape[1:]), case.shape)
    x = map_shapes(lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32), empty)
    got = jax.tree.map(lambda y: y.shape, jax.eval_shape(apply_fn, params, x))
    assert got == map_shapes(lambda shape: (0, *shape[1:]), case.layer.output_shape(case.shape))


def test_the_batch_may_be_symbolic_when_exported(key):
    params, apply_fn = jc.Sequential([jc.Conv1D(4, 3), jc.AveragePooling1D(2), jc.Flatten(), jc.Dense(2)]).init(key, X)
    x = jax.ShapeDtypeStruct(jax.export.symbolic_shape("b,10,3"), jnp.float32)
    exported = jax.export.export(jax.jit(apply_fn))(params, x)
    np.testing.assert_allclose(exported.call(params, X), apply_fn(params, X), rtol=1e-5)  # compiled once more


def test_lookups_of_layers(key):
    assert layers.get({"class_name": "Dense", "config": {"units": 2}}) == jc.Dense(2)
    assert layers.get(jc.Dense(2)) == jc.Dense(2)
    with pytest.raises(ValueError, match=r"unknown layer 'Conv4D'; did you mean"):
        layers.get({"class_name": "Conv4D", "config": {}})
    with pytest.raises(ValueError, match=r"Dense: unknown argument 'unit' = 2; did you mean 'units'\?"):
        layers.get({"class_name": "Dense", "config": {"unit": 2}})
    with pytest.raises(ValueError, match="has no 'class_name'"):
        layers.get({"units": 2})


# -- split, merge, penalty, project


def test_a_layer_that_is_not_trainable_has_only_fixed_weights_no_penalty_and_no_projection(key):
    layer = jc.Dense(2, trainable=False, kernel_regularizer="l2", kernel_constraint="unit_norm")
    params, apply_fn = layer.init(key, (None, 3))
    trainable, fixed = apply_fn.split(params)
    assert trainable == {"kernel": None, "bias": None} and fixed == params
    assert apply_fn.penalty(params) == 0
    assert apply_fn.project(params)["kernel"] is params["kernel"]


def test_merge_names_what_does_not_fit(key):
    params, apply_fn = jc.Sequential([jc.Dense(2), jc.BatchNormalization()]).init(key, (None, 3))
    trainable, fixed = apply_fn.split(params)
    with pytest.raises(ValueError, match="batch_normalization: moving_mean: merge: both parts have this leaf"):
        merge(params, fixed)  # would lose the new statistics without a word
    with pytest.raises(ValueError, match=r"different names: \['batch_normalization', 'dense'\] and Effects"):
        merge(trainable, apply_fn.forward(params, jnp.ones((2, 3)))[1])
    with pytest.raises(
        ValueError, match=r"dense: merge: the two parts have different names: \['bias', 'kernel'\] and None"
    ):
        merge(trainable, {**fixed, "dense": None})


def test_penalties_by_hand(key):
    layer = jc.Dense(
        2, use_bias=True, kernel_regularizer=jc.regularizers.L2(0.5), bias_regularizer=jc.regularizers.L1(2)
    )
    apply_fn = layer.apply_fn
    params = {"kernel": jnp.array([[1.0, 2.0], [3.0, 0.0]]), "bias": jnp.array([-1.0, 1.0])}
    assert apply_fn.penalty(params) == 0.5 * 14 + 2 * 2
    np.testing.assert_array_equal(jax.grad(apply_fn.penalty)(params)["kernel"], params["kernel"])


@pytest.mark.parametrize("batch, want", [(1, 9.0), (2, 9.0), (4, 9.0), (0, 0.0)])
def test_activity_penalty_is_divided_by_the_batch_size(batch, want):
    layer = jc.Activation("linear", activity_regularizer=jc.regularizers.L2(1.0))
    _, effects = layer.apply_fn.forward({}, jnp.full((batch, 1), 3.0))
    assert effects.penalty == want


def test_penalties_do_not_overflow_in_half_precision():
    layer = jc.Activation("linear", activity_regularizer="l2", dtype="float16")
    _, effects = layer.apply_fn.forward({}, jnp.full((1, 1000), 100.0))
    assert effects.penalty.dtype == jnp.float32
    np.testing.assert_allclose(effects.penalty, 0.01 * 1e7, rtol=1e-5)  # 1e7 is above float16's 65504
    dense = jc.Dense(1, kernel_regularizer="l2", dtype="float16")
    np.testing.assert_allclose(
        dense.apply_fn.penalty({"kernel": jnp.full((1000, 1), 100.0, jnp.float16), "bias": jnp.zeros(1, jnp.float16)}),
        0.01 * 1e7,
        rtol=1e-5,
    )


def test_filter_constraint_holds_for_each_filter(key):
    layer = jc.Conv2D(6, 3, groups=2, kernel_constraint=jc.constraints.UnitNorm(axis="filter"))
    params, apply_fn = layer.init(key, (None, 8, 8, 4))
    kernel = apply_fn.project(params)["kernel"]
    np.testing.assert_allclose(jnp.linalg.norm(kernel.reshape(-1, 6), axis=0), 1, rtol=1e-6)  # float32
    assert layer.get_config()["kernel_constraint"]["config"]["axis"] == [0, 1, 2]


def test_flags_are_bools_and_nothing_that_looks_like_one():
    for make in (
        lambda flag: jc.Conv1D(2, 3, use_bias=flag),
        lambda flag: jc.Dense(2, use_bias=flag),
        lambda flag: jc.BatchNormalization(center=flag),
        lambda flag: jc.GlobalMaxPooling1D(keepdims=flag),
    ):
        with pytest.raises(ValueError, match="='False' is not a bool; give True or False"):
            make("False")
        assert make(np.bool_(False)) == make(False)


def test_a_callable_without_hash_is_refused_when_the_layer_is_built():
    @dataclasses.dataclass
    class Unhashable:
        scale: float = 1.0

        def __call__(self, w):
            return self.scale * jnp.sum(w)

    with pytest.raises(TypeError, match=r"kernel_regularizer: .* has no hash, which jit needs"):
        jc.Conv1D(2, 3, kernel_regularizer=Unhashable())


def test_init_can_be_jitted_and_an_apply_fn_passed_through_jit():
    layer = jc.Conv1D(2, 3)
    params, apply_fn = jax.jit(layer.init, static_argnums=1)(jax.random.key(0), (None, 8, 3))
    assert apply_fn == layer.apply_fn
    x = jnp.ones((1, 8, 3))
    np.testing.assert_allclose(jax.jit(lambda f, p, x: f(p, x))(apply_fn, params, x), apply_fn(params, x), atol=1e-6)


def test_integers_beyond_32_bits_are_converted_and_not_wrapped():
    big = np.array([[3_000_000_000, -3_000_000_000]])
    y = jc.Rescaling(1.0).apply_fn({}, big)
    np.testing.assert_array_equal(y, big.astype(np.float32))
    params, apply_fn = jc.Dense(1, kernel_initializer="ones", use_bias=False).init(jax.random.key(0), (None, 1))
    np.testing.assert_array_equal(apply_fn(params, [[3_000_000_000]]), [[3e9]])
    params, apply_fn = jc.Embedding(4, 2).init(jax.random.key(0), (None, 1))
    with pytest.raises(ValueError, match=r"Embedding: .*3000000000 .* 32 bits"):
        apply_fn(params, np.array([[3_000_000_000]]))


@pytest.mark.parametrize(
    "layer", [jc.Sequential([jc.Conv1D(2, 3), jc.Flatten()]), jc.Bidirectional(jc.LSTM(3)), jc.Conv1D(2, 3)]
)
def test_hypothesis_prints_a_layer_like_python(layer):
    """Its printer reads class variables of dataclasses, too, and one of a layer may have no value."""
    assert "".join(pretty(layer).split()) == "".join(repr(layer).split())
