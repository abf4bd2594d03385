"""The contract that every layer keeps: a frozen record of options that gives ``(params, apply_fn)``.

The laws (tests/test_laws.py holds every layer to them):

1. ``apply_fn(params, x)`` equals ``forward(params, x)[0]``; jit changes nothing; vmap over batch changes nothing; both
   data formats agree.
2. ``merge(*split(params))`` is ``params``; ``effects.fixed`` has the structure of ``fixed`` and equals it at inference.
3. ``project`` keeps structure, shapes and dtypes, touches no statistics, and is idempotent up to Keras's epsilon;
   ``penalty`` is a finite scalar.
4. Reverse, forward and second-order derivatives agree with finite differences in float64.
5. ``layer == from_config(json.loads(json.dumps(layer.get_config())))``; both give the same params from the same key.
6. ``output_shape(input_shape)`` is the shape that ``apply_fn`` gives; every illegal one raises at ``init``.
8. Same key, same params and same result, on any number of devices.
9. A mask that is True everywhere changes nothing; a padded sequence with its mask gives what it gives alone.

Knows no particular layer: what one computes stands in its own file.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv import activations, constraints, initializers, regularizers
from jaxconv.contract.apply import Apply, Effects, Params, check_key, held, merge
from jaxconv.contract.at_inference import AtInference
from jaxconv.contract.masks import Maskable, hide
from jaxconv.contract.measures import Measured
from jaxconv.contract.policy import Policy, policy, policy_name
from jaxconv.contract.shapes import LEAF, Shape, as_shape, as_shapes, shape_of
from jaxconv.contract.symbolic import Input, Node, SymbolicTensor, as_lists, connect, is_symbolic
from jaxconv.dtypes import promote
from jaxconv.errors import explain
from jaxconv.registry import Registry, nearest, plain

Array = jax.Array

__all__ = [
    "LEAF",
    "Apply",
    "Effects",
    "Input",
    "Layer",
    "Node",
    "Params",
    "Shape",
    "SymbolicTensor",
    "Weight",
    "as_lists",
    "as_shape",
    "as_shapes",
    "layers",
    "merge",
    "shape_of",
]

layers = Registry("layer", "keras.layers")

# the ending of a field's name -> the table that reads and writes it
TABLES = {
    "initializer": initializers,
    "regularizer": regularizers,
    "constraint": constraints,
    "activation": activations,
}


class Weight(NamedTuple):
    """One leaf of params before it exists: its shape and the ``(key, shape, dtype) -> array`` that makes it."""

    shape: tuple[int, ...]
    initializer: Any


@dataclasses.dataclass(frozen=True)
class Layer(AtInference, Maskable, Measured):
    """Options of a layer, validated and canonical. Subclasses add fields, and say what they compute.

    A subclass gives ``output_shape``, ``weights`` and ``call``; it may give ``leaves``, ``statistics`` and
    ``filter_axes``; for masks ``keeps_mask``, or ``call_masked`` and ``output_mask``; ``measures``. A container gives
    ``children`` and ``forward`` instead. A layer of several inputs gives ``read_shape`` too: its input is a list of
    arrays, its input shape a list of shapes.

    Args:
        name: the key of this layer's params in a container; counted there when None. No "/".
        trainable: False keeps all weights out of the optimizer's hands, and out of penalty and constraints.
        dtype: a policy name: float32 (also None), float64, float16, bfloat16, mixed_float16 or mixed_bfloat16.
        input_shape: the input's shape without batch, for ``init`` without a shape. An explicit shape wins.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Double(Layer):
    ...     def output_shape(self, input_shape): return as_shape(input_shape, "Double")
    ...     def call(self, params, x, *, train, key): return 2 * x, {}
    >>> Double().apply_fn({}, jnp.ones((1, 3)))
    Array([[2., 2., 2.]], dtype=float32)
    """

    name: str | None = dataclasses.field(default=None, kw_only=True)
    trainable: bool = dataclasses.field(default=True, kw_only=True)
    dtype: Any = dataclasses.field(default=None, kw_only=True)
    input_shape: Any = dataclasses.field(default=None, kw_only=True)

    beyond_keras: ClassVar[frozenset[str]] = frozenset()  # fields that a config names only where they are set
    keras_only: ClassVar[dict[str, tuple]] = {}  # Keras's arguments not here -> their values that ask for nothing
    statistics: ClassVar[frozenset[str]] = frozenset()  # leaves that are never trained
    draws: ClassVar[bool] = False  # needs a key in training
    keeps_mask: ClassVar[bool] = False  # step t of the output is real where step t of the input is

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        legal = [field.name for field in dataclasses.fields(cls) if field.init]
        for name in kwargs:
            if name not in legal:
                raise ValueError(
                    f"{cls.__name__}: unknown argument {name!r} = {kwargs[name]!r}; {nearest(name, legal)}"
                )
        return super().__new__(cls)

    def __post_init__(self) -> None:
        where = type(self).__name__
        if self.name is not None and (not isinstance(self.name, str) or not self.name or "/" in self.name):
            raise ValueError(f"{where}: name={self.name!r} is not legal; give a non-empty string without '/'")
        for name in [field.name for field in dataclasses.fields(self) if field.type is bool]:
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise ValueError(f"{where}: {name}={getattr(self, name)!r} is not a bool; give True or False")
            self._set(**{name: bool(getattr(self, name))})
        self._set(dtype=policy_name(self.dtype, where))
        if self.input_shape is not None:
            self._set(input_shape=as_shape(self.input_shape, f"{where}: input_shape"))
        axes = {prefix: self.filter_axes(leaf) for leaf, prefix in self.leaves.items()}
        for field in dataclasses.fields(self):
            prefix, _, ending = field.name.rpartition("_")
            if ending not in TABLES:
                continue
            value = getattr(self, field.name)
            if value is None and ending == "initializer":
                value = field.default  # as the reference page documents it, for the bias too
            if isinstance(value, Layer) or (isinstance(value, type) and issubclass(value, Layer)):
                raise TypeError(f"{where}: {field.name} is a layer, {value!r}; give a function, or put the layer after")
            more = {"filter_axes": axes.get(prefix)} if ending in ("regularizer", "constraint") else {}
            with explain(f"{where}: {field.name}"):
                entry = TABLES[ending].get(value, **more)
                try:
                    hash(entry)
                except TypeError:
                    raise TypeError(
                        f"{entry!r} has no hash, which jit needs; make its class a frozen dataclass"
                    ) from None
                self._set(**{field.name: entry})

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    # -- what a subclass says

    def output_shape(self, input_shape: Any) -> Shape:
        """Give the output's shape for an input's (batch first; None where unknown). Raises ValueError if illegal."""
        raise TypeError(f"{type(self).__name__} does not say what shape it gives")

    def weights(self, input_shape: Shape) -> dict[str, Weight]:
        """Give the leaves of params for an input of this shape."""
        return {}

    def call(self, params: Params, x: Array, *, train: bool, key: Any) -> tuple[Array, Params]:
        """Compute (output, new values of statistics) from an input in the compute type."""
        raise TypeError(f"{type(self).__name__} does not say what it computes")

    def input_dtype(self, given: Any) -> Any:
        """Give the type that ``call`` gets an input in, for the type it came in: the compute type."""
        return self.policy.compute

    @property
    def leaves(self) -> dict[str, str]:
        """Give the names of the leaves, each with the beginning of the names of the fields that govern it."""
        return {}

    def filter_axes(self, leaf: str) -> tuple[int, ...] | None:
        """Give the axes of a leaf that make up one filter: what ``axis="filter"`` means for it."""
        return None

    @property
    def children(self) -> dict[str, "Layer"]:
        """Give the layers inside a container by their names in params."""
        return {}

    @property
    def variables(self) -> tuple[tuple[str, ...], ...]:
        """Give the paths in params of this layer's own weights as Keras counts them: trained ones, then statistics."""
        trained = [(leaf,) for leaf in self.leaves if leaf not in self.statistics]
        return (*trained, *((leaf,) for leaf in self.leaves if leaf in self.statistics))

    def read_shape(self, input_shape: Any) -> Any:
        """Read the shape of the input; a layer of several inputs reads a structure of shapes."""
        return as_shape(input_shape, type(self).__name__)

    @property
    def output_structure(self) -> Any:
        """Give how the outputs hang together, as JAX's tree structure: one array for all but a Model of several."""
        return LEAF

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Add a node to a graph: called on an ``Input`` or what came of one (or a list), give the output tensor."""
        if len(args) == 1 and not kwargs and is_symbolic(args[0]):
            return connect(self, args[0])
        if is_symbolic((args, kwargs)):
            raise TypeError(
                f"{self.label}: called on more than one argument; give one, or one list; train and key go to forward"
            )
        raise TypeError(
            f"{self.label}: a layer holds no weights and cannot be called; "
            "params, apply_fn = layer.init(key, x), then apply_fn(params, x)"
        )

    # -- what every layer can do

    @property
    def label(self) -> str:
        """Give the name for messages: the given one, or the class's."""
        return self.name or type(self).__name__

    @property
    def policy(self) -> Policy:
        """Give the dtype policy in force."""
        return policy(self.dtype)

    @property
    def apply_fn(self) -> Apply:
        """Give the functions of this layer; no initializer runs."""
        return Apply(self)

    def init(self, key: Any, input_shape: Any = None) -> tuple[Params, Apply]:
        """Make the params for an input, and the functions over them.

        Args:
            key: a JAX PRNG key; the same key gives the same params.
            input_shape: a shape with batch first (None where unknown), an array, or a ``jax.ShapeDtypeStruct``.

        Returns:
            ``(params, apply_fn)``.

        Raises:
            ValueError: an input that this layer cannot take.
            TypeError: a key that is none.
        """
        where = type(self).__name__
        check_key(key, f"{where}.init")
        if input_shape is None and self.input_shape is None:
            raise ValueError(f"{where}: init needs an input shape; give one like (None, 128, 16), or an array")
        if input_shape is None:
            with explain(f"{where}: input_shape={self.input_shape}, which is without batch"):
                return self.init(key, (None, *self.input_shape))
        shape = self.read_shape(input_shape)
        self.output_shape(shape)
        return self.init_params(key, shape), self.apply_fn

    def init_params(self, key: Any, input_shape: Shape) -> Params:
        """Make the params: one key for each leaf, so that no two leaves can be equal by accident."""
        where = type(self).__name__
        self.policy.require(where)
        params = {}
        for index, (leaf, weight) in enumerate(self.weights(input_shape).items()):
            with explain(f"{where}: initializer of {leaf}, called with (key, shape, dtype)"):
                value = weight.initializer(jax.random.fold_in(key, index), weight.shape, self.policy.variable)
                if tuple(value.shape) != weight.shape:
                    raise ValueError(f"gave shape {tuple(value.shape)}; this layer needs {weight.shape}")
            params[leaf] = jnp.asarray(value, self.policy.variable)
        self._check_governing(params)
        return params

    def _check_governing(self, params: Params) -> None:
        """Try regularizers and constraints on shapes alone: one that does not fit raises before training."""
        for ending in ("regularizer", "constraint"):
            for leaf, entry in self._governing(ending, params):
                wanted = () if ending == "regularizer" else params[leaf].shape
                with explain(f"{type(self).__name__}: {ending} of {leaf}"):
                    got = jax.eval_shape(entry, params[leaf]).shape
                    if got != wanted:
                        raise ValueError(f"gave shape {got}; it must give {wanted}")

    def forward(self, params: Params, x: Any, *, train: bool, key: Any, mask: Any = None) -> tuple[Array, Effects]:
        """Compute output and effects: check and cast the input, call, then the activity regularizer."""
        self._check_names(params)
        x = self._input(x)
        shape = shape_of(x)
        self.output_shape(shape)
        self._check_shapes(params, shape)
        if train and self.draws and key is None:
            raise ValueError(
                f"{self.label}: training draws random numbers and got no key; "
                "call forward(params, x, train=True, key=jax.random.key(0))"
            )
        if train and self.draws:
            check_key(key, self.label)
        mask = self.read_mask(mask, shape)
        if mask is None:
            y, statistics = self.call(params, x, train=train, key=key)
        else:
            y, statistics = self.call_masked(params, x, mask, train=train, key=key)
        mask = self.output_mask(x, mask)
        fixed = {leaf: statistics.get(leaf, value) for leaf, value in self.select(params, fixed=True).items()}
        return y, Effects(fixed, self._activity(y, mask), mask)

    def _activity(self, y: Array, mask: Any) -> Array:
        """Give the activity regularizer of an output, its masked steps left out, divided by the batch size."""
        wide = self.policy.penalty
        regularizer = getattr(self, "activity_regularizer", None)
        if regularizer is None:
            return jnp.zeros((), wide)
        y = y.astype(wide)  # a sum: float16 overflows
        y = y if mask is None else hide(y, mask, self.mask_layouts(y.ndim))
        return regularizer(y).astype(wide) / jnp.maximum(jnp.asarray(y.shape[0], wide), jnp.ones((), wide))

    def _input(self, x: Any) -> Array:
        """Bring an input to the compute type: floats and integers are cast, complex numbers are refused."""
        self.policy.require(self.label)
        with explain(f"{self.label}: the input is no array of numbers"):
            x = jnp.asarray(x)
        if jnp.issubdtype(x.dtype, jnp.complexfloating):
            raise TypeError(
                f"{self.label}: got complex input ({x.dtype}); this layer computes in {self.policy.compute}; "
                "give real and imaginary parts as channels"
            )
        return x.astype(self.input_dtype(x.dtype))

    def _check_names(self, params: Any) -> None:
        expected = {*self.leaves, *self.children}
        if not isinstance(params, Mapping) or set(params) != expected:
            raise ValueError(f"{self.label}: params {held(params)}; this layer needs {sorted(expected)}")

    def check_names(self, params: Any) -> None:
        """Raise ValueError where params has other names than this layer, or a layer inside, needs."""
        self._check_names(params)
        for name, child in self.children.items():
            with explain(name):
                child.check_names(params.get(name, {}))

    def _check_shapes(self, params: Params, input_shape: Shape) -> None:
        for leaf, weight in self.weights(input_shape).items():
            shape = getattr(params[leaf], "shape", None)
            if shape != weight.shape:
                got = f"one of shape {shape}" if shape is not None else f"{params[leaf]!r}; merge the parts of a split"
                raise ValueError(
                    f"{self.label}: input of shape {input_shape} needs a {leaf} of shape {weight.shape}; "
                    f"these params hold {got}"
                )

    def select(self, params: Params, *, fixed: bool) -> Params:
        """Keep the fixed leaves, or the trainable ones, and put None in place of the others."""
        inside = self.children
        kept = {leaf: value if self._is_fixed(leaf) is fixed else None for leaf, value in params.items()}
        return kept | {name: inside[name].select(params[name], fixed=fixed) for name in params if name in inside}

    def _is_fixed(self, leaf: str) -> bool:
        return leaf in self.statistics or not self.trainable

    def penalty(self, params: Params) -> Array:
        """Sum the regularizers of the trainable weights."""
        terms = [child.penalty(params[name]) for name, child in self.children.items() if name in params]
        wide = self.policy.penalty
        terms += [entry(params[leaf].astype(wide)) for leaf, entry in self._governing("regularizer", params)]
        dtype = promote(wide, *(term.dtype for term in terms))
        return sum((term.astype(dtype) for term in terms), start=jnp.zeros((), dtype))

    def project(self, params: Params) -> Params:
        """Apply the constraints of the trainable weights."""
        done = {name: child.project(params[name]) for name, child in self.children.items() if name in params}
        done |= {leaf: constraint(params[leaf]) for leaf, constraint in self._governing("constraint", params)}
        return {name: done.get(name, value) for name, value in params.items()}

    def _governing(self, ending: str, params: Params) -> list[tuple[str, Any]]:
        """List the (leaf, entry) pairs of one table that act on trainable leaves."""
        pairs = [(leaf, getattr(self, f"{prefix}_{ending}", None)) for leaf, prefix in self.leaves.items()]
        return [(leaf, entry) for leaf, entry in pairs if entry is not None and not self._is_fixed(leaf)]

    def get_config(self) -> dict[str, Any]:
        """Give the options as Keras 3 writes them: plain values that JSON keeps."""
        config = {"name": self.name, "trainable": self.trainable, "dtype": self.dtype}
        if self.input_shape is not None:
            config["input_shape"] = plain(self.input_shape)
        for field in dataclasses.fields(self):
            ending = field.name.rpartition("_")[2]
            if field.init and field.name not in config and field.name != "input_shape":
                value = getattr(self, field.name)
                if field.name in self.beyond_keras and value == field.default:
                    continue
                config[field.name] = TABLES[ending].serialize(value) if ending in TABLES else plain(value)
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build the layer from what ``get_config`` gave, or from Keras's own config."""
        empty = {name for name, values in cls.keras_only.items() if name in config and config[name] in values}
        return cls(**{name: value for name, value in config.items() if name not in empty})
