"""``Layer``, the base class of all layers: a frozen record of options, from which ``(params, apply_fn)`` follows.

The laws, which tests/test_laws.py checks for every layer:

1. ``apply_fn(params, x)`` equals ``forward(params, x)[0]``; jit changes nothing; vmap over batch changes nothing; both
   data formats agree.
2. ``merge(*split(params))`` is ``params``; ``effects.fixed`` has the structure of ``fixed`` and equals it at inference.
3. ``project`` keeps structure, shapes and dtypes, changes no statistics, and is idempotent up to Keras's epsilon;
   ``penalty`` is a finite scalar.
4. Reverse, forward and second-order derivatives agree with finite differences in float64.
5. ``layer == from_config(json.loads(json.dumps(layer.get_config())))``; both make the same params from the same key.
6. ``output_shape(input_shape)`` is the shape that ``apply_fn`` returns; every invalid input raises at ``init``.
7. Streaming: for every chunking, the concatenated outputs equal the output for the entire sequence.
8. The same key gives the same params and the same result, on any number of devices.
9. A mask that is True everywhere changes nothing; a padded sequence with its mask has the outputs of the unpadded one.

Must not import particular layers: the computation of each is in its own file.
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, final

import jax.numpy as jnp
from jax import Array

from jaxconv.contract import display, masks, tap
from jaxconv.contract.apply import Apply, Effects, Params, check_key, describe_params
from jaxconv.contract.complete import check_call, check_class
from jaxconv.contract.keras_methods import missing_attribute
from jaxconv.contract.options import canonical_options, check_arguments, to_config
from jaxconv.contract.policy import Policy, policy
from jaxconv.contract.registered import layers as layers
from jaxconv.contract.shapes import LEAF, Shape, as_array, as_shape, shape_of
from jaxconv.contract.spatial import family_docstring
from jaxconv.contract.symbolic import connect, is_symbolic
from jaxconv.contract.weights import Weight, check_shapes, count_multiply_adds, governing, make_params, sum_penalties
from jaxconv.dtypes import promote
from jaxconv.errors import explain
from jaxconv.registry import Entry
from jaxconv.windows import Window, output_lengths


@dataclasses.dataclass(frozen=True, repr=False)
class Layer(Entry):
    """The validated, canonical options of a layer, and everything that follows from the declarations of a subclass.

    A subclass is a frozen dataclass with its options as fields. It declares its ``windows`` (how each output axis reads
    the input's axes) and its ``weights``, and implements ``call``. Options named ``NAME_initializer`` declare a weight
    NAME, which ``NAME_regularizer`` and ``NAME_constraint`` govern. The rest has defaults that are rarely overridden.
    Output shapes, masks, receptive fields and multiply-adds follow from the windows.

    Args:
        name: the key of this layer's params in a container; chosen there if None. Must not contain "/".
        trainable: False excludes all weights from the trainable part, from the penalty and from the constraints.
        dtype: a policy name: float32 (or None), float64, float16, bfloat16, mixed_float16 or mixed_bfloat16.
        input_shape: the input's shape without batch, for ``init`` without a shape. A shape passed to ``init`` takes
            precedence.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Double(Layer):
    ...     def windows(self, input_shape): return (Window(),) * (len(input_shape) - 1)
    ...     def call(self, params, x, *, train, key, mask): return 2 * x, Effects()
    >>> Double().apply_fn({}, jnp.ones((1, 3)))
    Array([[2., 2., 2.]], dtype=float32)
    """

    name: str | None = dataclasses.field(default=None, kw_only=True)
    trainable: bool = dataclasses.field(default=True, kw_only=True)
    dtype: Any = dataclasses.field(default=None, kw_only=True)
    input_shape: Any = dataclasses.field(default=None, kw_only=True)

    beyond_keras: ClassVar[frozenset[str]] = frozenset()  # fields that a config contains only if they are set
    input_names: ClassVar[tuple[str, ...]] = ()  # arguments of Keras's call, if inputs here are a list of them
    call_options: ClassVar[tuple[str, ...]] = ()  # bool options that Keras passes to each call
    keras_only: ClassVar[dict[str, tuple]] = {}  # Keras's arguments without a field here -> values that change nothing
    checks: ClassVar[dict[str, Any]] = {}  # option -> (value, option, class name) -> the value to store
    leaf_names: ClassVar[dict[str, str]] = {}  # NAME in its options, as in NAME_initializer -> its leaf
    statistics: ClassVar[frozenset[str]] = frozenset()  # leaves that are never trained
    needs_key: ClassVar[bool] = False  # draws random numbers in training
    composite: ClassVar[bool] = False  # made of layers, which check their inputs and apply masks themselves
    masked_value: ClassVar[float] = 0  # the value of masked steps in the input of call
    graph: ClassVar[Any] = None  # the calls inside a container
    time_is_axis_1: ClassVar[bool] = False  # axis 1 is time
    promote_16_bit: ClassVar[bool] = False  # in half precision, call gets float32
    min_rank: ClassVar[int] = 0  # the minimum number of input axes: 1 for (batch, ...)
    rank: ClassVar[int]  # the number of spatial axes, in families that have several
    output_values: ClassVar[str | None] = None  # "activation" (that option's), "input", "layer", a function's name
    if not TYPE_CHECKING:  # a type checker would accept every name
        __getattr__ = missing_attribute

    def __init_subclass__(cls, rank: int | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if rank is not None:  # a member of a family: ``class Conv1D(BaseConv, rank=1)``
            cls.rank = rank
            cls.__doc__ = family_docstring(cls, rank)
        if "__repr__" not in vars(cls):
            cls.__repr__ = Layer.__repr__  # type: ignore[method-assign]  # else dataclass writes one of all options

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        check_arguments(cls, args, kwargs)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        canonical_options(self)
        self._set(_canonical=True)

    # -- what a subclass declares

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        """Return one window for each output axis after the batch: how it reads the input's axes.

        Args:
            input_shape: batch first; an unknown size is None or a symbolic dimension. Raise ValueError for an input
                that this layer does not accept.
        """
        raise TypeError(f"{type(self).__name__} does not declare its windows; implement windows(self, input_shape)")

    def weights(self, input_shape: Shape) -> dict[str, Weight]:
        """Return the weights, by the names of their leaves in params, for an input of this shape."""
        return {}

    def call(self, params: Params, x: Any, *, train: bool, key: Any, mask: Any) -> tuple[Any, Effects]:
        """Compute the output and the effects of a call.

        Args:
            params: the leaves, in their own types.
            x: the input in the compute type; masked steps contain ``masked_value``.
            train, key: as in ``forward``.
            mask: True at each unmasked step, with the rank of ``x``; None if there is no mask.
        """
        raise TypeError(f"{type(self).__name__} does not say what it computes; implement call")

    @property
    def leaves(self) -> dict[str, str]:
        """Return the names of the leaves, each with the prefix of the options that govern it."""
        fields = [field.name.rpartition("_") for field in dataclasses.fields(self)]
        names = [name for name, _, ending in fields if ending == "initializer"]
        kept = [name for name in names if name != "bias" or getattr(self, "use_bias", True)]
        return {self.leaf_names.get(name, name): name for name in kept}

    def filter_axes(self, leaf: str) -> tuple[int, ...] | None:
        """Return the axes of a leaf that make up one filter, which ``axis="filter"`` refers to."""
        return None

    def input_dtype(self, given: Any) -> Any:
        """Return the type in which ``call`` gets an input of the given type: the compute type."""
        return promote(self.policy.compute, jnp.float32) if self.promote_16_bit else self.policy.compute

    # -- derived from the declarations; rarely overridden

    def read_shape(self, input_shape: Any) -> Any:
        """Convert the input's shape; a layer with several inputs takes a structure of shapes."""
        return as_shape(input_shape, type(self).__name__, self.min_rank)

    def output_shape(self, input_shape: Any) -> Any:
        """Return the output shape for an input shape, with None for unknown sizes. Raises ValueError if invalid."""
        shape = self.read_shape(input_shape)
        return (*shape[:1], *output_lengths(self.windows(shape), shape[1:], type(self).__name__))

    @property
    def known_input_shape(self) -> Any:
        """Return the layer's own input shape, batch first, or None if it has none."""
        return None if self.input_shape is None else (None, *self.input_shape)

    def flat_inputs(self, value: Any) -> list:
        """Return the inputs, or their shapes, as a list; a container has them in the order of its graph."""
        return list(value) if isinstance(value, list) else [value]

    @property
    def output_structure(self) -> Any:
        """Return the JAX tree structure of the outputs: one leaf, unless the layer has several outputs."""
        return LEAF

    @property
    def children(self) -> dict[str, "Layer"]:
        """Return the layers inside this one by their names in params."""
        return {}

    @property
    def keras_variables(self) -> tuple[tuple[str, ...], ...]:
        """Return the paths in params of this layer's own weights in Keras's order: trained ones, then statistics."""
        trained = [(leaf,) for leaf in self.leaves if leaf not in self.statistics]
        return (*trained, *((leaf,) for leaf in self.leaves if leaf in self.statistics))

    def multiply_adds(self, input_shape: Any) -> int | None:
        """Return the number of products of kernel entries with inputs for one example, or None if it is unknown.

        Each entry of a kernel is used once per output step (for a transposed window, once per input step). Scales,
        biases, activations and pooling are not counted, as is usual; taps on padding are.
        """
        return count_multiply_adds(self, self.read_shape(input_shape))

    def mask_layouts(self, rank: int) -> list[tuple[int, ...]]:
        """Return the axes of an input or output of this rank that a mask may lie along, the most likely first."""
        channels: dict[Any, int] = {"channels_last": rank - 1, "channels_first": 1}
        return masks.layouts(rank, channels.get(getattr(self, "data_format", None)))

    def read_mask(self, mask: Any, shape: Any) -> Any:
        """Convert the mask of an input of this shape. Raises ValueError for one of the wrong length."""
        ways = self.mask_layouts(len(shape))
        return None if mask is None else masks.as_mask(mask, shape, ways, self.label, least=self.least_mask_axes)

    @property
    def least_mask_axes(self) -> int:
        """Return the minimum number of axes of a mask: 2 for a layer over one axis, which needs a mask of its steps."""
        return 2 if self.time_is_axis_1 or getattr(self, "rank", 0) == 1 else 1

    def output_mask(self, x: Any, mask: Any) -> Any:
        """Return the output's mask from the input and its mask, which may be None."""
        return None if mask is None or self.composite else masks.derived_mask(self, x.shape, mask)

    # -- what every layer can do

    @property
    def label(self) -> str:
        """Return the name for messages: the layer's, or that of its class."""
        return self.name or type(self).__name__

    @property
    def policy(self) -> Policy:
        """Return the dtype policy of this layer."""
        return policy(self.dtype)

    @property
    def apply_fn(self) -> Apply:
        """Return the functions of this layer, without making params."""
        return Apply(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Add a call to a graph: takes a symbolic tensor (or a list of them) and returns the output tensor."""
        if len(args) == 1 and not kwargs and is_symbolic(args[0]):
            return connect(self, args[0])
        if is_symbolic((args, kwargs)):
            raise TypeError(f"{self.label}: called on several arguments; give one or a list; train, key go to forward")
        reason = "a layer stores no weights and cannot be called on arrays"
        raise TypeError(f"{self.label}: {reason}; params, apply_fn = layer.init(key, x), then apply_fn(params, x)")

    def init(self, key: Any, input_shape: Any = None) -> tuple[Params, Apply]:
        """Make the params for an input, and the functions over them.

        Args:
            key: a JAX PRNG key; the same key makes the same params.
            input_shape: a shape, batch first (None for unknown sizes), an array, or a ``jax.ShapeDtypeStruct``.

        Returns:
            ``(params, apply_fn)``.

        Raises:
            ValueError: an input that this layer does not accept.
            TypeError: a key that is not a PRNG key; a layer class that is not complete.
        """
        where = type(self).__name__
        check_key(key, f"{where}.init")
        if input_shape is None:
            if self.known_input_shape is None:
                raise ValueError(f"{where}: init needs an input shape; give one like (None, 128, 16), or an array")
            own = f"{self.input_shape}, without batch" if self.input_shape is not None else str(self.known_input_shape)
            with explain(f"{where}: input_shape={own}"):
                return self.init(key, self.known_input_shape)
        check_class(self)
        shape = self.read_shape(input_shape)
        self.output_shape(shape)
        return self.init_params(key, shape), self.apply_fn

    def init_params(self, key: Any, input_shape: Shape) -> Params:
        """Make the params, including those of layers inside."""
        check_class(self)
        params = make_params(self, key, input_shape)
        check_call(self, params, input_shape)
        return params

    @final
    @tap.tapped
    def forward(self, params: Params, x: Any, *, train: bool, key: Any, mask: Any = None) -> tuple[Any, Effects]:
        """Compute output and effects: check and cast the input, apply the mask, call, complete the effects."""
        self._check_own_names(params)
        if self.composite:
            y, effects = self.call(params, x, train=train, key=key, mask=mask)
        else:
            x = self._input(x)
            shape = shape_of(x)
            self.output_shape(shape)
            check_shapes(self, params, shape)
            if train and self.needs_key:
                if key is None:
                    what = f"{self.label}: training draws random numbers and got no key"
                    raise ValueError(f"{what}; call forward(params, x, train=True, key=jax.random.key(0))")
                check_key(key, self.label)
            mask = self.read_mask(mask, shape)
            is_derived = type(self).output_mask is Layer.output_mask
            layer, inside, real = (self, x, None) if mask is None else masks.prepare(self, x, mask, is_derived)
            y, effects = layer.call(params, inside, train=train, key=key, mask=real)
        mask = effects.mask if effects.mask is not None else self.output_mask(x, mask)
        fixed = {leaf: effects.fixed.get(leaf, value) for leaf, value in self.select(params, fixed=True).items()}
        inside, own = effects.penalty, self._activity_penalty(y, mask)  # those of layers inside may have wider types
        penalty = sum_penalties([inside, own], own.dtype) if self.composite else inside + own
        return y, Effects(fixed, penalty, mask)

    def _activity_penalty(self, y: Any, mask: Any) -> Array:
        """Return the activity regularizer of an output without its masked steps, divided by the batch size."""
        dtype = self.policy.penalty
        regularizer = getattr(self, "activity_regularizer", None)
        if regularizer is None:
            return jnp.zeros((), dtype)
        y = y.astype(dtype)  # a sum: float16 overflows
        if mask is not None:
            y = masks.fill_masked(y, masks.broadcast_mask(mask, y.shape, self.mask_layouts(y.ndim)))
        return regularizer(y).astype(dtype) / jnp.maximum(jnp.asarray(y.shape[0], dtype), jnp.ones((), dtype))

    def _input(self, x: Any) -> Any:
        """Cast an input to the compute type. Raises TypeError for complex numbers."""
        self.policy.require(self.label)
        with explain(f"{self.label}: the input is not an array of numbers"):
            x = as_array(x, self.input_dtype(jnp.int32))
        if jnp.issubdtype(x.dtype, jnp.complexfloating):
            what = f"got complex input ({x.dtype}); this layer computes in {self.policy.compute}"
            raise TypeError(f"{self.label}: {what}; give real and imaginary parts as channels")
        return x.astype(self.input_dtype(x.dtype))

    def _check_own_names(self, params: Any) -> None:
        expected = {*self.leaves, *self.children}
        if not isinstance(params, Mapping) or set(params) != expected:
            raise ValueError(f"{self.label}: params {describe_params(params)}; this layer needs {sorted(expected)}")

    def check_names(self, params: Any) -> None:
        """Raise ValueError if the names in params are not those that this layer and the layers inside need."""
        self._check_own_names(params)
        for name, child in self.children.items():
            with explain(name):
                child.check_names(params.get(name, {}))

    # -- params

    def select(self, params: Params, *, fixed: bool) -> Params:
        """Return the fixed leaves, or the trainable ones, with None in place of the others."""
        inside = self.children
        kept = {leaf: value if self.is_fixed(leaf) is fixed else None for leaf, value in params.items()}
        return kept | {name: inside[name].select(params[name], fixed=fixed) for name in params if name in inside}

    def is_fixed(self, leaf: str) -> bool:
        """Return whether a leaf is not trained."""
        return leaf in self.statistics or not self.trainable

    def penalty(self, params: Params) -> Array:
        """Sum the regularizers of the trainable weights."""
        terms = [child.penalty(params[name]) for name, child in self.children.items() if name in params]
        terms += [entry(params[leaf].astype(self.policy.penalty)) for leaf, entry in governing(self, "regularizer")]
        return sum_penalties(terms, self.policy.penalty)

    def project(self, params: Params) -> Params:
        """Apply the constraints of the trainable weights."""
        done = {name: child.project(params[name]) for name, child in self.children.items() if name in params}
        done |= {leaf: constraint(params[leaf]) for leaf, constraint in governing(self, "constraint")}
        return {name: done.get(name, value) for name, value in params.items()}

    # -- config and display

    def get_config(self) -> dict[str, Any]:
        """Return the options as Keras 3 writes them: plain values that JSON can represent."""
        return to_config(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build the layer from the result of ``get_config``, or from Keras's own config."""
        empty = {name for name, values in cls.keras_only.items() if name in config and config[name] in values}
        return cls(**{name: value for name, value in config.items() if name not in empty})

    def summary(self, input_shape: Any = None, print_fn: Any = print) -> display.Summary:
        """Print a table of the layers with output shapes, weights, multiply-adds and receptive fields; return its rows.

        Args:
            input_shape: batch first; may be omitted if the layer knows its input shape.
            print_fn: called with the table; None prints nothing.

        >>> model = jaxconv.Sequential([jaxconv.Conv1D(8, 3), jaxconv.Conv1D(8, 3)])
        >>> rows = model.summary((None, 10, 2), print_fn=None)
        >>> [(row.name, row.multiply_adds, row.fields[0].size) for row in rows[1:]]
        [('conv1d', 384, 3), ('conv1d_1', 1152, 5)]
        """
        rows = display.summary(self, input_shape)
        if print_fn is not None:
            print_fn(str(rows))
        return rows

    def __repr__(self) -> str:
        return display.text(self)

    _repr_html_ = display.html
    _repr_pretty_ = display.pretty  # hypothesis would print class variables among the options

    def __treescope_repr__(self, path: Any, subtree_renderer: Any) -> Any:
        return display.treescope(self, path, subtree_renderer)
