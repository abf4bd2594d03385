"""Replacements for Keras's modules: ``layers``, ``knn``, ``activations``, ... Independent of test cases."""

import contextlib
import dataclasses
import functools
import types
from typing import Any

import jax
import numpy as np

import jaxconv
from jaxconv import Input, Layer
from tests.keras_suite.adapter import (
    KerasTensor,
    MaskOf,
    ModelStandIn,
    StandIn,
    Symbol,
    arrays,
    is_leaf,
    is_symbolic,
    stand_in,
    symbolic,
)
from tests.keras_suite.messages import keras_words
from tests.keras_suite.training import Sequential
from tests.support.keras_oracle import keras


class Surface(types.ModuleType):
    """A Keras module whose attributes are jaxconv's: those in ``attributes``, and those that ``find`` returns."""

    def __init__(self, name: str, find: Any, **attributes: Any):
        super().__init__(name)
        self.__dict__.update(attributes, find=find)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.__dict__["find"](name)


def absent(name: str) -> Any:
    raise AttributeError(f"{name} has no stand-in")


def find_layer(name: str) -> Any:
    found = getattr(jaxconv, name, None)
    if not (isinstance(found, type) and issubclass(found, Layer)):
        raise AttributeError(f"jaxconv has no layer {name}")
    return stand_in(found)


def make_input(*args: Any, **kwargs: Any) -> Symbol:
    dtype = kwargs.get("dtype") or "float32"
    return Symbol(Input(*args, **kwargs), dtype)


def make_model(inputs: Any, outputs: Any, **kwargs: Any) -> StandIn:
    of_mask = isinstance(outputs, MaskOf)
    model = ModelStandIn(symbolic(inputs), symbolic(outputs.symbol if of_mask else outputs), **kwargs)
    model.returns_mask = of_mask
    return model


@functools.cache
def function(compute: Any) -> Any:
    """Wrap a function of jaxconv so that it accepts Keras variables, and KerasTensors for their shapes."""

    @functools.wraps(compute)
    def on_anything(*args: Any, **kwargs: Any) -> Any:
        with keras_words():
            if not is_symbolic((args, kwargs)):
                return compute(*arrays(args), **arrays(kwargs))
            return traced(compute, args, kwargs)

    on_anything.stands_for = compute  # type: ignore[attr-defined]
    return on_anything


def traced(compute: Any, args: Any, kwargs: Any) -> Any:
    """Compute the shape of the result, with 83 and with 89 for unknown sizes; a size that differs is unknown."""

    def shape(fill: int) -> Any:
        leaves, tree = jax.tree.flatten((args, kwargs), is_leaf=is_leaf)
        at = [i for i, leaf in enumerate(leaves) if isinstance(leaf, KerasTensor)]
        specs = [jax.ShapeDtypeStruct([s or fill for s in leaves[i].shape], leaves[i].dtype) for i in at]

        def run(*values: Any) -> Any:
            filled = [*leaves]
            for i, value in zip(at, values, strict=True):
                filled[i] = value
            a, k = arrays(tree.unflatten(filled))
            return compute(*a, **k)

        return jax.eval_shape(run, *specs)

    one, two = shape(83), shape(89)
    return KerasTensor([a if a == b else None for a, b in zip(one.shape, two.shape, strict=True)], dtype=one.dtype)


class Mirror(type):
    """A class that jaxconv's instances are instances of as well."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, cls.__mro__[1])


def remade(x: Any, cls: type) -> Any:
    """Convert an object to another class with the same fields."""
    made = object.__new__(cls)
    made.__dict__.update(x.__dict__)
    return made


@functools.cache
def entry(found: type) -> Any:
    """Return the stand-in of a class of initializers, regularizers or constraints.

    An initializer is called with (shape, dtype) as Keras's are. The key, which counts where it has no integer seed,
    is its caller's: the next of a seed generator, or the initializer's own.
    """

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        seed = kwargs.get("seed")
        if isinstance(seed, keras.random.SeedGenerator):
            kwargs["seed"] = None
            self.__dict__["make_key"] = lambda: jax.random.wrap_key_data(seed.next(), impl="threefry2x32")
        else:
            self.__dict__["make_key"] = functools.partial(jaxconv.from_keras_seed, np.random.randint(2**31))
        with keras_words():
            found.__init__(self, *args, **kwargs)  # type: ignore[misc]

    def __call__(self: Any, *args: Any, shape: Any = None, dtype: Any = None) -> Any:
        if issubclass(found, jaxconv.initializers.Initializer) and len(args) < 3:  # 3: from inside jaxconv
            make_key = self.__dict__.get("make_key") or functools.partial(jaxconv.from_keras_seed, 0)
            shape, dtype = (*args, dtype)[:2] if args else (shape, dtype)
            args = (make_key(), shape, np.dtype(dtype or "float32"))
        with keras_words():
            return found.__call__(self, *arrays(args))

    def from_config(cls: Any, config: Any) -> Any:
        return cls(**config)

    body = {"__init__": __init__, "__call__": __call__, "from_config": classmethod(from_config)}
    body |= {"stands_for": property(lambda self: remade(self, found))}
    return Mirror(found.__name__, (found,), body)


def table(module: Any) -> Surface:
    """Return the stand-in of jaxconv.initializers, jaxconv.regularizers or jaxconv.constraints."""

    def find(name: str) -> Any:
        found = getattr(module, name)
        return entry(found) if isinstance(found, type) else found

    def get(identifier: Any) -> Any:
        with keras_words():
            found = module.get(identifier)
        if type(type(found)) is Mirror or not dataclasses.is_dataclass(found):
            return found
        return remade(found, entry(type(found)))

    return Surface(module.__name__, find, get=get)


def validate_float_arg(value: Any, name: str) -> float:
    """Check a factor as the regularizers do, which accept None."""
    with keras_words():
        return jaxconv.regularizers.L2(value).l2


def get_activation(identifier: Any) -> Any:
    return function(jaxconv.activations.get(identifier))


LAYERS = Surface("layers", find_layer, Input=make_input)
GLOBALS = {
    "layers": LAYERS,
    "models": Surface("models", absent, Model=make_model, Sequential=Sequential),
    "Sequential": Sequential,
    "activations": Surface(
        "activations", lambda name: function(getattr(jaxconv.activations, name)), get=get_activation
    ),
    "initializers": table(jaxconv.initializers),
    "regularizers": table(jaxconv.regularizers),
    "constraints": table(jaxconv.constraints),
}
NAMES = {"validate_float_arg": validate_float_arg, "compute_fans": jaxconv.initializers.fans}  # imported one by one
OPS = ("conv", "conv_transpose", "depthwise_conv", "separable_conv")
KNN = Surface("knn", absent, **{op: function(getattr(jaxconv, op)) for op in OPS})


@contextlib.contextmanager
def default_data_format() -> Any:
    """Restore the default data formats of jaxconv and Keras after a case."""
    before = jaxconv.image_data_format()
    set_image_data_format(before)
    try:
        yield
    finally:
        set_image_data_format(before)


def set_image_data_format(data_format: str) -> None:
    """Set the default data format of both."""
    jaxconv.set_image_data_format(data_format)
    keras.config.set_image_data_format(data_format)
