"""The base class of recurrent layers: a cell repeated over the steps by ``lax.scan``.

A cell is a function from the products of its inputs with the kernels, gate by gate, to its new states.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import PartitionSpec

from jaxconv import geometry as geo
from jaxconv.contract import LEAF, MIXED, Effects, Layer, Params, Shape, Weight, Window, as_shapes, whole
from jaxconv.contract.masks import broadcast_mask
from jaxconv.contract.weights import sum_penalties
from jaxconv.kernels.varying import varying_zeros
from jaxconv.layers.activation_axis import activate, activated_width
from jaxconv.layers.options import as_fraction, as_seed, known_channels
from jaxconv.layers.sharding import broadcast_like, explicit_sharding, gather_axes
from jaxconv.windows import output_lengths

States = tuple[Array, ...]
Recur = Callable[..., list[Array]]  # (state, gates) -> the product of the state with the kernel of each gate


class WithStates(Layer):
    """A layer whose input is a sequence, or a list of a sequence and the states before its first step."""

    state_argument: ClassVar[str] = "initial_state"  # Keras's argument for the states that follow the sequence

    def read_shape(self, input_shape: Any) -> Any:
        parts = input_shape if isinstance(input_shape, list | tuple) else ()
        several = any(hasattr(one, "shape") or isinstance(one, list | tuple) for one in parts)
        return as_shapes(input_shape, type(self).__name__) if several else super().read_shape(input_shape)

    def _input(self, x: Any) -> Any:
        return [super(WithStates, self)._input(one) for one in x] if isinstance(x, list | tuple) else super()._input(x)

    def read_mask(self, mask: Any, shape: Any) -> Any:
        if not isinstance(shape, list):
            return super().read_mask(mask, shape)
        own = mask[0] if isinstance(mask, list | tuple) else mask
        return None if own is None else [super().read_mask(own, shape[0]), *[None] * (len(shape) - 1)]


class Recurrent(WithStates):
    """A layer that repeats a cell over the steps. Subclasses have Keras's fields, and implement ``cell``."""

    gates: ClassVar[str]  # a letter for each gate, in the order of their columns in the kernels
    time_is_axis_1: ClassVar[bool] = True
    state_count: ClassVar[int] = 1  # the first state is the output
    keras_group: ClassVar[str] = "cell/"  # where Keras 3 stores the weights, inside the layer's group
    beyond_keras: ClassVar[frozenset[str]] = frozenset({"use_cudnn"})  # Keras does not write it
    keras_only: ClassVar[dict[str, tuple]] = {"implementation": (0, 1, 2), "time_major": (False,)}
    leaf_names: ClassVar[dict[str, str]] = {"recurrent": "recurrent_kernel"}
    checks: ClassVar[dict[str, Any]] = {
        **dict.fromkeys(("units", "filters"), geo.as_size),
        **dict.fromkeys(("dropout", "recurrent_dropout"), as_fraction),
        "seed": as_seed,
    }

    units: int
    activation: Any
    recurrent_activation: Any = None
    use_bias: bool
    kernel_initializer: Any
    recurrent_initializer: Any
    bias_initializer: Any
    dropout: float
    recurrent_dropout: float
    return_sequences: bool
    return_state: bool
    go_backwards: bool
    stateful: bool
    unroll: bool
    seed: int | None
    zero_output_for_mask: bool
    use_cudnn: Any

    def __post_init__(self) -> None:
        super().__post_init__()
        where = type(self).__name__
        if self.stateful:
            what = f"{where}: stateful=True keeps states between calls, and layers here contain no arrays"
            raise ValueError(f"{what}; use stateful=False, and jaxconv.stream to run a sequence in parts")
        if getattr(self, "use_cudnn", "auto") not in ("auto", False):
            raise ValueError(f"{where}: use_cudnn={self.use_cudnn!r} is not possible with XLA; give 'auto' or False")
        for activation in (self.activation, self.recurrent_activation):
            if activated_width(activation, 2, where) != 2:
                raise ValueError(f"{where}: activation 'glu' halves the channels; give one that keeps them")

    # -- what a subclass declares

    def cell(self, x: Sequence[Array], states: States, recur: Recur) -> States:
        """Return the new states from the input's products, gate by gate, and the previous states."""
        raise NotImplementedError

    def product(self, x: Array, kernel: Array, recurrent: bool) -> Array:
        """Return the product of inputs or of a state with a kernel; axes before the last ones are batch axes."""
        return jnp.matmul(x, kernel)

    def step_windows(self, shape: Shape) -> tuple[Window, ...]:
        """Return the windows of the axes of one step, for an input of this shape."""
        if len(shape) != 3 or shape[2] == 0:
            raise ValueError(f"{type(self).__name__}: input of shape {shape}; this layer needs (batch, time, channels)")
        return (whole(self.units),)

    def kernel_shapes(self, shape: Shape) -> tuple[Shape, Shape]:
        """Return the shapes of the kernel and of the recurrent kernel, without the axis of the filters."""
        return (shape[2],), (self.units,)

    @property
    def channel_axis(self) -> int:
        """Return the axis of the channels in a step or in several, counted from the end."""
        return -1

    @property
    def bias_rows(self) -> int:
        """Return the number of biases: 2 if the product with the state has its own."""
        return 1

    @property
    def separate_masks(self) -> bool:
        """Return whether dropout draws a mask for each gate, as Keras does."""
        return self.recurrent_dropout > 0 and len(self.gates) > 1

    # -- derived from the declarations

    @property
    def needs_key(self) -> bool:  # type: ignore[override]
        return self.dropout > 0 or self.recurrent_dropout > 0

    def mask_layouts(self, rank: int) -> list[tuple[int, ...]]:
        return [(0, 1)]  # Keras masks steps, and nothing within them

    def filter_axes(self, leaf: str) -> tuple[int, ...]:
        return (0,) if leaf.endswith("kernel") else ()

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        input_shape = sequence_of(input_shape)
        inside = self.step_windows(input_shape)
        length = input_shape[1]
        if isinstance(length, int) and length < 1:
            raise ValueError(f"{type(self).__name__}: input of shape {input_shape} has no step; at least 1 is needed")
        if not self.return_sequences:
            return inside
        return (whole(length) if self.go_backwards else MIXED, *inside)

    def output_shape(self, input_shape: Any) -> Any:
        # the windows describe the first output; the states have no time axis
        given = self.read_shape(input_shape)
        shape = sequence_of(given)
        y = super().output_shape(shape)
        if isinstance(given, list):
            check_states(given, [self.state_shape(shape)] * self.state_count, type(self).__name__)
        return [y, *[self.state_shape(shape)] * self.state_count] if self.return_state else y

    def state_shape(self, shape: Any) -> Any:
        """Return the shape of one state, batch first, for an input of this shape."""
        return (shape[0], *output_lengths(self.step_windows(shape), shape[1:], type(self).__name__))

    @property
    def output_structure(self) -> Any:
        return jax.tree.structure([0] * (1 + self.state_count)) if self.return_state else LEAF

    def output_mask(self, x: Any, mask: Any) -> Any:
        """Return the mask of the steps in the order of the output. Keras does not reverse it with ``go_backwards``."""
        mask = mask[0] if isinstance(mask, list) else mask
        if mask is None or not self.return_sequences:
            return None
        own = jnp.flip(mask, 1) if self.go_backwards else mask
        return [own, *(None for _ in range(self.state_count))] if self.return_state else own

    def weights(self, input_shape: Shape) -> dict[str, Weight]:
        input_shape = sequence_of(input_shape)
        kernel, recurrent = self.kernel_shapes(input_shape)
        known_channels(kernel[-1], input_shape, type(self).__name__)
        width = len(self.gates) * recurrent[-1]  # type: ignore[operator]
        found = {
            "kernel": Weight((*kernel, width), self.kernel_initializer),  # type: ignore[arg-type]
            "recurrent_kernel": Weight((*recurrent, width), self.recurrent_initializer),  # type: ignore[arg-type]
        }
        if self.use_bias:
            shape = (width,) if self.bias_rows == 1 else (self.bias_rows, width)
            forget = getattr(self, "unit_forget_bias", False)
            first = functools.partial(_forget_ones, self.bias_initializer) if forget else self.bias_initializer
            found["bias"] = Weight(shape, first)
        return found

    def multiply_adds(self, input_shape: Any) -> int | None:
        # each kernel is used at each step, although the windows say that the time axis is read entirely
        shape = sequence_of(self.read_shape(input_shape))
        out = self.state_shape(shape)[1:]
        if None in (*shape[1:], *out):
            return None
        channels = out[self.channel_axis]
        kernels = [weight for leaf, weight in self.weights(shape).items() if leaf.endswith("kernel")]
        return shape[1] * math.prod(out) // channels * sum(math.prod(kernel.shape) for kernel in kernels)

    def initial_states(self, shape: Shape, *operands: Array) -> States:
        """Return the states before the first step, zeros, for an input of this shape.

        operands: the arrays that they are combined with, whose mesh axes they vary over in ``shard_map``.
        """
        zeros = varying_zeros(self.state_shape(shape), self.policy.compute, *operands)
        return (zeros,) * self.state_count

    def call(self, params: Params, x: Any, *, train: bool, key: Any, mask: Any) -> tuple[Any, Effects]:
        x, *given = x if isinstance(x, list) else [x]
        x = gather_axes(x, [1])  # the steps run in sequence
        mask = broadcast_mask(mask[0], x.shape, self.mask_layouts(x.ndim)) if isinstance(mask, list) else mask
        drops = self._drop_masks(x, key) if train and self.needs_key else (None, None)
        states = tuple(given) or self.initial_states(x.shape, x, *params.values())
        sharding = explicit_sharding(x)
        if sharding is not None:  # the states that the steps return are sharded along the batch, as x is
            batch = sharding.update(spec=PartitionSpec(sharding.spec[0]))
            states = tuple(jax.sharding.reshard(state, batch) for state in states)
        outputs, states = self.run(params, x, states, mask, drops)
        y = states[0] if outputs is None else outputs
        return [y, *states] if self.return_state else y, Effects()

    def _activity_penalty(self, y: Any, mask: Any) -> Array:
        """Sum the penalties of the output and, as Keras does, of the states that are returned."""
        if not self.return_state:
            return super()._activity_penalty(y, mask)
        pairs = zip(y, mask or [None] * len(y), strict=True)
        return sum_penalties([super(Recurrent, self)._activity_penalty(*pair) for pair in pairs], self.policy.penalty)

    def _drop_masks(self, x: Array, key: Any) -> tuple[Any, Any]:
        """Return the random masks of the input and of the state, with an axis for the gates first, or None for each."""
        key = key if self.seed is None else jax.random.fold_in(key, self.seed)
        found, step = [], (x.shape[0], 1, *x.shape[2:])
        for rate, shape in ((self.dropout, step), (self.recurrent_dropout, self.state_shape(x.shape))):
            key, own = jax.random.split(key)
            count = len(self.gates) if self.separate_masks else 1
            kept = jax.random.bernoulli(own, 1 - rate, (count, *shape)).astype(x.dtype)
            found.append(kept if rate == 1 else kept / (1 - rate) if rate else None)
        return found[0], found[1]

    def run(
        self, params: Params, x: Array, states: States, mask: Any = None, drops: tuple[Any, Any] = (None, None)
    ) -> tuple[Any, States]:
        """Run over the steps from given states: over ``x``, (batch, time, ...), in the compute type.

        ``mask`` is True at each unmasked step, with the rank of ``x``; at masked steps the states stay unchanged.

        Returns:
            (the outputs of all steps, or None without ``return_sequences``; the states after the last step).
        """
        own = {name: value.astype(x.dtype) for name, value in params.items()}
        bias = list(own["bias"].reshape(self.bias_rows, -1)) if self.use_bias else [None]
        every = self._products(x, own["kernel"], bias[0], drops[0], self.gates, False)

        def recur(state: Array, gates: str = self.gates) -> list[Array]:
            row = bias[1] if len(bias) > 1 else None
            return self._products(state, own["recurrent_kernel"], row, drops[1], gates, True)

        def step(states: States, now: Any) -> tuple[States, Any]:
            gates, real = now
            new = tuple(one.astype(x.dtype) for one in self.cell(gates, states, recur))
            if real is not None:
                new = tuple(jnp.where(real, one, old) for one, old in zip(new, states, strict=True))
            if not self.return_sequences:
                return new, None
            hide = real is not None and self.zero_output_for_mask
            return new, jnp.where(real, new[0], jnp.zeros_like(new[0])) if hide else new[0]

        xs = jax.tree.map(lambda value: jnp.moveaxis(value, 1, 0), (every, mask))
        states, outputs = lax.scan(step, states, xs, reverse=self.go_backwards)
        if outputs is not None:
            outputs = jnp.moveaxis(jnp.flip(outputs, 0) if self.go_backwards else outputs, 0, 1)
        return outputs, states

    def _products(self, x: Array, kernel: Array, bias: Any, drop: Any, gates: str, recurrent: bool) -> list[Array]:
        """Return the product of an input with the kernel of each of some neighbouring gates."""
        units, axis = kernel.shape[-1] // len(self.gates), self.channel_axis
        first, last = (self.gates.index(gates) + n for n in (0, len(gates)))
        kernel = kernel[..., first * units : last * units]
        if drop is None or len(drop) == 1:
            y = self.product(x if drop is None else x * drop[0], kernel, recurrent)
        else:
            pairs = zip(drop[first:last], jnp.split(kernel, len(gates), -1), strict=True)
            y = jnp.concatenate([self.product(x * one, part, recurrent) for one, part in pairs], axis)
        if bias is not None:
            row = bias[first * units : last * units]
            y = y + broadcast_like(row.reshape(-1, *(1,) * (-1 - axis)), y)
        return jnp.split(y, len(gates), axis)

    def _activate(self, y: Array) -> Array:
        return activate(self.activation, y, self.channel_axis)

    def _gate(self, y: Array) -> Array:
        return activate(self.recurrent_activation, y, self.channel_axis)


def sequence_of(given: Any) -> Any:
    """Return the sequence, or its shape, without the initial states that may follow it."""
    return given[0] if isinstance(given, list) else given


def check_states(shapes: list[Shape], own: Sequence[Any], where: str) -> None:
    """Raise ValueError if the initial states after the sequence do not have the shapes ``own``."""
    fits = all(
        len(one) == len(right) and all(None in pair or pair[0] == pair[1] for pair in zip(one, right, strict=True))
        for one, right in zip(shapes[1:], own, strict=False)
    )
    if len(shapes) != 1 + len(own) or not fits:
        allowed = f"{len(own)} states of shape {' and '.join(map(str, dict.fromkeys(own)))}"
        raise ValueError(f"{where}: inputs of shapes {shapes}; after the sequence this layer takes {allowed}, or none")


def _forget_ones(initializer: Any, key: Any, shape: tuple[int, ...], dtype: Any) -> Array:
    """Initialize the bias of an LSTM with ones for the forget gate, the second of four."""
    units = shape[0] // 4
    return initializer(key, shape, dtype).at[units : 2 * units].set(1)


class LongShortTerm(Recurrent):
    """The cell of a long short-term memory: an input, a forget and an output gate, and a candidate."""

    gates: ClassVar[str] = "ifco"
    state_count: ClassVar[int] = 2

    def cell(self, x: Sequence[Array], states: States, recur: Recur) -> States:
        i, f, candidate, o = (a + b for a, b in zip(x, recur(states[0]), strict=True))
        c = self._gate(f) * states[1] + self._gate(i) * self._activate(candidate)
        return self._gate(o) * self._activate(c), c
