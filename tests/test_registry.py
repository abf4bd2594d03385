"""Registries: the four ways to name an entry, serialization, and the suggested name."""

import dataclasses

import numpy as np
import pytest

import jaxconv
from jaxconv.registry import Registry, nearest, plain, snake_case


@pytest.fixture
def table():
    things = Registry("thing", "keras.things")

    @things.register("second_name")
    def double(x):
        return 2 * x

    @things.register()
    @dataclasses.dataclass(frozen=True)
    class AddOne:
        amount: int = 1

        def __call__(self, x):
            return x + self.amount

        def get_config(self):
            return {"amount": self.amount}

    @things.register()
    @dataclasses.dataclass(frozen=True)
    class Zero:
        def __call__(self, x):
            return 0

    return things


@pytest.mark.parametrize(
    "name, want",
    [
        ("MaxPooling1D", "max_pooling1d"),
        ("Conv1D", "conv1d"),
        ("BatchNormalization", "batch_normalization"),
        ("GlobalAveragePooling2D", "global_average_pooling2d"),
        ("L1L2", "l1l2"),
        ("GlorotUniform", "glorot_uniform"),
        ("SeparableConv1D", "separable_conv1d"),
    ],
)
def test_snake_case_is_keras_s(name, want):
    assert snake_case(name) == want


@pytest.mark.parametrize("way", ["AddOne", "add_one", {"class_name": "AddOne", "config": {}}, {"class_name": "AddOne"}])
def test_ways_to_name_a_class(table, way):
    assert table.get(way) == table["AddOne"]() == table.get(table["AddOne"]) == table.get(table["AddOne"]())


@pytest.mark.parametrize("way", ["double", "second_name", {"class_name": "function", "config": "double"}])
def test_ways_to_name_a_function(table, way):
    assert table.get(way)(3) == 6


def test_none_and_any_callable_pass_through(table):
    assert table.get(None) is None and table.get(len) is len


def test_get_inverts_serialize(table):
    for entry in (None, table["double"], table["AddOne"](5)):
        assert table.get(table.serialize(entry)) == entry
    assert table.serialize(table["AddOne"](5)) == {
        "module": "keras.things", "class_name": "AddOne", "config": {"amount": 5}, "registered_name": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    "given, kind, message",
    [
        ("dubble", ValueError, r"thing 'dubble'; did you mean 'double'\? expected "),
        ("zzz", ValueError, "thing 'zzz'; expected add_one, double, second_name, zero$"),
        ({"class_name": "Zero", "config": {"x": 2}}, ValueError, r"Zero .*'x'; expected none$"),
        (
            {"class_name": "AddOne", "config": {"amuont": 2}},
            ValueError,
            r"AddOne .*'amuont'.*'amount'\?",
        ),
        ({"config": {}}, ValueError, "thing .*'class_name'"),
        ({"class_name": 3}, ValueError, "thing .*'class_name'"),
        (3, TypeError, " 3 .*thing.* name.* callable.* instance.* config"),
    ],
)
def test_what_is_refused(table, given, kind, message):
    with pytest.raises(kind, match=message):
        table.get(given)


def test_a_name_is_registered_once(table):
    with pytest.raises(ValueError, match="thing name 'double'"):
        table.register("double")(lambda x: x)


def test_a_function_without_a_name_is_not_serialized(table):
    with pytest.raises(ValueError, match=r"thing <function .*registered.*double"):
        table.serialize(lambda x: x)


@pytest.mark.parametrize(
    "word, options, hint",
    [
        ("stride", ["strides", "padding"], "did you mean 'strides'? "),
        ("kernel", ["kernel_constraint", "kernel_initializer", "kernel_size"], "did you mean 'kernel_size'? "),
        ("RELU", ["relu", "elu"], "did you mean 'relu'? "),
        ("xyz", ["relu", "elu"], "expected "),
        ("", ["relu", "elu"], "expected "),
        ("MultiHeadAttention", ["Activation", "activation", "Add", "Concatenate"], "expected "),
        ("LSTM", ["ELU", "elu", "Softmax"], "expected "),
        ("Conv2DTransposed", ["Conv2D", "Conv2DTranspose"], "did you mean 'Conv2DTranspose'? "),
        ("size", ["padding", "pool_size"], "did you mean 'pool_size'? "),
        ("x", [], "expected none"),
        ("xyz", ["MaxNorm", "max_norm", "max"], "expected max, max_norm"),
        ("Xyz", ["MaxNorm", "max_norm", "max"], "expected MaxNorm, max"),
    ],
)
def test_nearest(word, options, hint):
    assert nearest(word, options).startswith(hint)


def test_plain_converts_to_json_types():
    assert plain({"a": (1, np.int64(2)), "b": np.array([1.5]), "c": [None, "x"]}) == {
        "a": [1, 2],
        "b": [1.5],
        "c": [None, "x"],
    }


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (jaxconv.initializers, ["he_normal", "constant", "zeros", "IdentityInitializer", "stft"]),
        (jaxconv.regularizers, ["l1", "l2", "l1_l2", "orthogonal_regularizer"]),
        (jaxconv.constraints, ["max_norm", "min_max_norm", "non_neg", "unit_norm"]),
    ],
)
def test_modules_have_the_aliases_of_keras(module, names):
    for name in names:
        assert getattr(module, name) is module.registry[name]
    with pytest.raises(AttributeError, match=f"{names[0]}x.*did you mean"):
        getattr(module, f"{names[0]}x")
    assert not hasattr(module, "__wrapped__")
    assert module.get(names[0]) == getattr(module, names[0])()


def test_the_package_names_where_an_attribute_is():
    assert {"training", "inspect", "Conv1D", "ops"} <= set(dir(jaxconv))
    with pytest.raises(AttributeError, match=r"no attribute 'fit'; it is jaxconv\.training\.fit"):
        jaxconv.fit  # noqa: B018
    with pytest.raises(AttributeError, match=r"no attribute 'Conv4D'$"):
        jaxconv.Conv4D  # noqa: B018
