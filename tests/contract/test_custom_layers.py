"""Custom layers: errors for mistakes of the class, at init or before, and use in files and configs."""

import dataclasses
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.contract import POINTWISE, Effects, Layer, Weight, layers, register
from tests.support.keras_files import layer as stored
from tests.support.keras_files import sequential, write_hdf5
from tests.support.messages import facts

KEY = jax.random.key(0)


def pointwise(self, input_shape):
    return (POINTWISE,) * (len(input_shape) - 1)


@register(layers)
class Gate(Layer):
    """Scale each channel by a learned factor."""

    gate_initializer: Any = "ones"
    power: int = 1

    windows = pointwise

    def weights(self, input_shape):
        return {"gate": Weight((input_shape[-1],), self.gate_initializer)}

    def call(self, params, x, *, train, key, mask):
        return x * (params["gate"] ** self.power)[(None,) * (x.ndim - 1)], Effects()


GATES = {name: entry for name, entry in layers._entries.items() if entry is Gate}
for name in GATES:  # other tests look at every layer that is registered
    del layers._entries[name]


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Register Gate for one test, and forget what the test registers."""
    monkeypatch.setattr(layers, "_entries", layers._entries | GATES)


@dataclasses.dataclass(frozen=True)
class Forgetful(Layer):
    """A layer whose call is set by each test."""

    amount: Any = 1
    windows = pointwise


def with_call(function, **names):
    return type("Mine", (Forgetful,), {"call": function, **names})


def forgotten_weight(self, params, x, **how):
    return x * params["scale"], Effects()


class Undecorated(Forgetful):
    """It declares an option and is not made a dataclass."""

    units: int = 3

    def call(self, params, x, **how):
        return x, Effects()


class Constructor(Forgetful):
    """It has the constructor of a Keras layer."""

    def __init__(self, units):
        self.units = units


class Uncanonical(Forgetful):
    """It forgets super().__post_init__()."""

    def __post_init__(self):
        pass

    def call(self, params, x, **how):
        return x, Effects()


@dataclasses.dataclass(frozen=True)
class Undeclared(Layer):
    """It has no windows."""

    def call(self, params, x, **how):
        return x, Effects()


FORGOTTEN = {
    "decorator": (lambda: Undecorated(units=4), ["Undecorated", "units", "frozen=True", "@register(layers)"]),
    "decorator of options with defaults": (lambda: Undecorated(), ["Undecorated", "units", "@register(layers)"]),
    "fields": (lambda: Constructor(4), ["Constructor", "__init__", "fields"]),
    "windows": (lambda: Undeclared(), ["Undeclared", "windows(self, input_shape)"]),
    "call": (lambda: Forgetful(), ["Forgetful", "call"]),
    "weights": (lambda: with_call(forgotten_weight)(), ["Mine", "'scale'", "scale_initializer", "weights()"]),
    "effects": (lambda: with_call(lambda self, p, x, **how: x)(), ["Mine", "return y, Effects()"]),
    "super().__post_init__": (lambda: Uncanonical(), ["Uncanonical.__post_init__", "super().__post_init__()"]),
    "hash": (lambda: with_call(lambda self, p, x, **how: (x, Effects()))([1, 2]), ["amount=[1, 2]", "tuple"]),
    "shape": (
        lambda: with_call(lambda self, p, x, **how: (x[:, ::2], Effects()))(),
        ["(2, 3, 3)", "(2, 6, 3)", "windows"],
    ),
    "names of weights": (
        lambda: with_call(forgotten_weight, weights=lambda self, shape: {"scale": Weight((3,), jnp.ones)})(),
        ["['scale']", "NAME_initializer"],
    ),
    "statistics": (
        lambda: with_call(lambda self, p, x, **how: (x, Effects(fixed={"mean": x[0]})))(),
        ["'mean'", "statistics"],
    ),
}


@pytest.mark.parametrize("kind", FORGOTTEN)
def test_what_a_class_forgets_is_said_at_init(kind):
    make, parts = FORGOTTEN[kind]
    for init in (lambda: jc.Sequential([jc.Activation("relu"), make()]).init, lambda: make().init):
        for batch in (None, 2):
            with pytest.raises((TypeError, ValueError), match=facts(*parts)):
                init()(KEY, (batch, 6, 3))


def test_a_complete_class_passes_and_is_traced_in_training_too():
    _, apply_fn = Gate(power=2).init(KEY, (None, 6, 3))
    assert apply_fn({"gate": jnp.full(3, 2.0)}, jnp.ones((1, 6, 3))).tolist() == [[[4.0] * 3] * 6]
    assert pickle.loads(pickle.dumps(Gate(power=2))) == Gate(power=2) == Gate.from_config(Gate(power=2).get_config())
    assert Gate().init(KEY, (None, None, 3))[0].keys() == {"gate"}  # an unknown length: nothing is traced
    jax.jit(lambda key: Gate().init(key, (None, 6, 3))[0])(KEY)
    draws = with_call(lambda self, p, x, *, key, train, **how: (x + jax.random.normal(key, x.shape) * train, Effects()))
    with pytest.raises((TypeError, ValueError), match="train=False"):
        draws().init(KEY, (None, 3))


def test_a_cell_that_defines_a_layer_can_run_twice():
    def cell():
        @register(layers)
        class Repeated(Layer):
            windows = pointwise

            def call(self, params, x, *, train, key, mask):
                return x, Effects()

        return Repeated

    first, second = cell(), cell()
    assert layers["Repeated"] is second is not first
    with pytest.raises(ValueError, match=facts("'Dense'", "already registered")):
        register(layers, "Dense")(type("Other", (Gate,), {}))


def test_a_class_stands_for_a_custom_layer_of_a_file(tmp_path):
    pytest.importorskip("h5py")
    own = {"power": 2, "trainable": True, "dtype": {"class_name": "DTypePolicy", "config": {"name": "float32"}}}
    config = sequential(
        stored("Dense", "d", units=2, use_bias=False, batch_input_shape=[None, 3]),
        {"class_name": "Scaler", "config": {"name": "g", "input_dtype": None, **own}},
    )
    tables = {"d": [("d/kernel:0", np.ones((3, 2), "float32"))], "g": [("g/gate:0", np.array([2, 3], "float32"))]}
    path = write_hdf5(tmp_path / "m.h5", config, tables, "2.9.0")
    with pytest.raises(jc.FileError, match=facts("layer 'g'", "'Scaler'", "custom_layers")):
        jc.load_model(path)
    params, apply_fn = jc.load_model(path, custom_layers={"Scaler": Gate})
    np.testing.assert_array_equal(apply_fn(params, np.ones((1, 3))), [[12.0, 27.0]])
    with pytest.raises(jc.FileError, match=facts("layer 'g'", "'power'")):
        jc.load_model(path, custom_layers={"Scaler": jc.Activation})
