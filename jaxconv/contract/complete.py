"""Checks of layer classes defined by users, made when params are created and not at the first call.

The layers of jaxconv are not checked here; tests/test_laws.py checks them.
"""

import dataclasses
import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp

from jaxconv.contract.apply import Effects, Params
from jaxconv.contract.shapes import shape_of
from jaxconv.errors import explain

_DECORATE = "put @register(layers), of jaxconv.contract, or @dataclasses.dataclass(frozen=True) above the class"


@functools.cache
def is_custom(cls: Any) -> bool:
    """Return whether a class is defined outside jaxconv."""
    return cls.__module__.partition(".")[0] != "jaxconv"


@functools.cache
def class_problem(cls: Any) -> str | None:
    """Describe why the options of a layer class are not dataclass fields, or return None if all of them are."""
    for base in [one for one in cls.__mro__ if is_custom(one) and one is not object and hasattr(one, "init_params")]:
        init = vars(base).get("__init__")
        if init is not None and init.__code__.co_filename != "<string>":
            return f"{base.__name__} has its own __init__; declare its options as fields (units: int) and {_DECORATE}"
    known = {field.name for field in dataclasses.fields(cls)}
    own = [name for name, kind in inspect.get_annotations(cls).items() if "ClassVar" not in str(kind)]
    missing = [name for name in own if name not in known]
    if missing and is_custom(cls):
        return f"{cls.__name__} declares {', '.join(missing)} and is not a dataclass; {_DECORATE}"
    return None


def check_class(layer: Any) -> None:
    """Check the class of a layer. Raises TypeError with what the class lacks."""
    cls: Any = type(layer)
    where = cls.__name__
    if not is_custom(cls):
        return
    if problem := class_problem(cls):
        raise TypeError(problem)
    if not hasattr(layer, "_canonical"):
        what = f"{where}.__post_init__ does not call super().__post_init__(), which makes the options canonical"
        raise TypeError(f"{what}; call it in the first line")
    for field in dataclasses.fields(layer):
        value = getattr(layer, field.name)
        try:
            hash(value)
        except TypeError:
            what = f"{where}: {field.name}={value!r} has no hash, which jit needs; give a tuple or a frozen dataclass"
            convert = f"self._set({field.name}=tuple(self.{field.name}))"
            raise TypeError(f"{what}, or convert it in __post_init__: {convert}") from None


def check_call(layer: Any, params: Params, input_shape: Any) -> None:
    """Trace ``call`` at inference and in training, and compare the results with what the class declares.

    Nothing is checked if a size other than the batch is unknown. Raises TypeError for weights that are not declared and
    for a result that is not (output, Effects), ValueError for an output whose shape does not follow from ``windows``.
    """
    cls: Any = type(layer)
    if not is_custom(cls) or layer.composite:
        return
    leaves: Any
    tree: Any
    leaves, tree = jax.tree.flatten(input_shape, is_leaf=lambda part: isinstance(part, tuple))
    if not all(all(isinstance(size, int) for size in shape[1:]) for shape in leaves):
        return
    shapes = [(2 if shape[0] is None else shape[0], *shape[1:]) for shape in leaves if shape]
    kind = layer.input_dtype(jnp.int32)
    dtype = jnp.int32 if jnp.issubdtype(kind, jnp.integer) else kind
    x = tree.unflatten(jax.ShapeDtypeStruct(shape, dtype) for shape in shapes)
    expected = layer.output_shape(tree.unflatten(shapes))
    for train in (False, True):
        key = jax.random.key(0) if train and layer.needs_key else None

        def call(params: Params, x: Any, key: Any, train: bool = train) -> Any:
            return _checked(layer, layer.call(_Declared(params, layer), x, train=train, key=key, mask=None), expected)

        with explain(f"{layer.label}.call(params, x, train={train}) for x of shape {shape_of(x)}"):
            jax.eval_shape(call, params, x, key)


def _checked(layer: Any, result: Any, expected: Any) -> Any:
    """Compare the result of a call with the declarations, and return its output."""
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], Effects):
        got = f"a {type(result).__name__} of {len(result)}" if isinstance(result, tuple) else type(result).__name__
        raise TypeError(f"it returned {got}; return the output and its effects: return y, Effects()")
    y, effects = result
    if shape_of(y) != expected:
        what = f"it returned an output of shape {shape_of(y)}, and windows() says {expected}, batch first"
        raise ValueError(f"{what}; make windows(input_shape) return one window for each axis after the batch")
    if unknown := sorted(set(effects.fixed) - {leaf for leaf in layer.leaves if layer.is_fixed(leaf)}):
        raise TypeError(f"effects.fixed has {unknown}; add them to statistics = frozenset({sorted(layer.statistics)})")
    return y


class _Declared(dict):
    """The declared params of a layer. Reading any other raises TypeError, which says how to declare it."""

    def __init__(self, params: Params, layer: Any):
        super().__init__(params)
        self._names = sorted(layer.leaves)

    def __missing__(self, name: Any) -> Any:
        what = f"it uses params[{name!r}], and the declared weights are {self._names}"
        add = f"add the option {name}_initializer and return Weight(shape, self.{name}_initializer) for it"
        raise TypeError(f"{what}; {add} from weights()")
