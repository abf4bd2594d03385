"""Operations of a stream: one layer call in one step, by the way in which it reads the time axis.

Uses the contract of layers, and more only where the mathematics requires it: a transposed convolution adds its bias
and activation after partial sums are complete, pooling counts the valid steps of each window, and a recurrent layer
continues from its states.
"""

import dataclasses
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv.dtypes import promote
from jaxconv.layers.activation_axis import activate
from jaxconv.streaming.signal import Signal

Array = jax.Array
MOST_SLICES = 16  # the largest number of slices of a ring that are taken one by one


class Real(Protocol):
    """The position of a chunk in the sequence of each row, which determines its valid steps: those in the sequence.

    Called with (first, count), it returns a mask (batch, count) of valid steps, counted from the chunk's start.
    start: (batch,), the number of the chunk's first step, up to a multiple of every ring.
    """

    start: Array

    def __call__(self, first: int, count: int) -> Array: ...


def infer(layer: Any, params: Any, x: Any) -> Array:
    """Return a layer's output at inference."""
    return layer.forward(params, x, train=False, key=None)[0]


def spread(mask: Array, rank: int, axis: int) -> Array:
    """Reshape a mask (batch, time) so that it broadcasts against an array of this rank with time at ``axis``."""
    sizes = {0: mask.shape[0], axis: mask.shape[1]}
    return lax.broadcast_in_dim(mask, [sizes.get(a, 1) for a in range(rank)], (0, axis))


def cut(x: Array, axis: int, start: int, stop: int, step: int = 1) -> Array:
    """Return a slice of one axis."""
    return x if (start, stop, step) == (0, x.shape[axis], 1) else lax.slice_in_dim(x, start, stop, step, axis)


def append(kept: Array | None, x: Array, axis: int) -> Array:
    """Return the kept steps and the new ones in one array."""
    return x if kept is None else lax.concatenate([kept, x], axis)


@dataclasses.dataclass(frozen=True, eq=False)
class Operation:
    """One call in one step: without a state, each step of the output reads its own step of the input.

    layer: the layer that is called. inputs: the signals that it is called on. listed: whether it takes them as a list.
    """

    layer: Any
    inputs: tuple[Signal, ...]
    listed: bool = False

    multiplies: ClassVar[bool] = True

    @property
    def signal(self) -> Signal:
        """Return the only input."""
        return self.inputs[0]

    def init(self, batch: int) -> Array | None:
        """Return the state before the first step, or None for an operation without a state."""
        return None

    def step(self, params: Any, xs: list[Array], real: Real, state: Any) -> tuple[Array, Any]:
        """Compute the outputs for the next steps: (outputs, new state)."""
        return infer(self.layer, params, xs if self.listed else xs[0]), state

    def multiply_adds(self, steps: int) -> int | None:
        """Return the number of multiply-adds for this many input steps, for one example."""
        if not self.multiplies:
            return 0
        shapes = [one.sized(steps) for one in self.inputs]
        return self.layer.multiply_adds(shapes if self.listed else shapes[0])

    def read(self, x: Array, real: Real) -> Array:
        """Return the input in the type that the layer computes in, with zeros at invalid steps."""
        x, axis = self.layer._input(x), self.signal.time
        return jnp.where(spread(real(0, x.shape[axis]), x.ndim, axis), x, jnp.zeros((), x.dtype))

    def kept(self, batch: int, steps: int, value: float = 0) -> Array | None:
        """Return a buffer for this many steps of the input, or None for no steps."""
        shape = self.signal.array_shape(batch, steps)
        return jnp.full(shape, value, self.layer.policy.compute) if steps else None


class Pass(Operation):
    """Return the input unchanged; the purpose is the delay before it."""

    multiplies: ClassVar[bool] = False

    def step(self, params: Any, xs: list[Array], real: Real, state: Any) -> tuple[Array, Any]:
        return xs[0], state


@dataclasses.dataclass(frozen=True, eq=False)
class Reshaped(Operation):
    """Change the shape of the other axes; ``shape`` is that of the output, with None for time."""

    shape: tuple = ()
    multiplies: ClassVar[bool] = False

    def step(self, params: Any, xs: list[Array], real: Real, state: Any) -> tuple[Array, Any]:
        x = self.layer._input(xs[0])
        steps = x.shape[self.signal.time]
        return x.reshape(x.shape[0], *(steps if n is None else n for n in self.shape[1:])), state


@dataclasses.dataclass(frozen=True, eq=False)
class EachStep(Operation):
    """Apply the layer to each step separately, as more samples: an earlier layer has reduced time."""

    def step(self, params: Any, xs: list[Array], real: Real, state: Any) -> tuple[Array, Any]:
        batch, steps = xs[0].shape[:2]
        flat = [x.reshape(batch * steps, *x.shape[2:]) for x in xs]
        y = infer(self.layer, params, flat if self.listed else flat[0])
        return y.reshape(batch, steps, *y.shape[1:]), state

    def multiply_adds(self, steps: int) -> int | None:
        count = super().multiply_adds(steps)
        return None if count is None else count * steps


@dataclasses.dataclass(frozen=True, eq=False)
class Slide(Operation):
    """Slide a window over the kept and the new steps.

    layer: the layer without padding along time. keep: the number of steps that are kept. fill: whether valid outputs
    may read invalid steps, which are then replaced by the value of the layer's padding. dense: the same layer without
    dilation and stride along time, for a single output. ring: the number of slots in the state if step ``t`` is kept in
    slot ``t % ring``, so that a chunk of one output touches only the steps that it reads and writes; a power of two. 0
    for a state in the order of time. base: the first of these slots in an array that rings share.
    """

    keep: int = 0
    extent: int = 1
    stride: int = 1
    dilation: int = 1
    fill: bool = False
    dense: Any = None
    ring: int = 0
    base: int = 0

    def init(self, batch: int) -> Array | None:
        return self.kept(batch, self.ring or self.keep, self.layer.masked_value if self.fill else 0)

    def step(self, params: Any, xs: list[Array], real: Real, state: Any) -> tuple[Array, Any]:
        x, axis = self.layer._input(xs[0]), self.signal.time
        steps = x.shape[axis]
        count = steps // self.stride
        if self.fill:
            mask = spread(real(0, steps), x.ndim, axis)
            x = jnp.where(mask, x, jnp.asarray(self.layer.masked_value, x.dtype))
        if self.ring:
            return self.step_ring(params, x, real, state)
        window = append(state, x, axis)
        new = cut(window, axis, window.shape[axis] - self.keep, window.shape[axis]) if self.keep else None
        if count == 1 and self.dense is not None:
            return self.compute(self.dense, params, cut(window, axis, 0, self.extent, self.dilation), real), new
        window = cut(window, axis, 0, (count - 1) * self.stride + self.extent)
        return self.compute(self.layer, params, window, real), new

    def step_ring(self, params: Any, x: Array, real: Real, state: tuple[Array, Array]) -> tuple[Array, Array]:
        """Compute the outputs from a ring in an array that rings share.

        state: the array before the chunk, and the array with the writes of earlier calls. The outputs of a few steps
        read after these are written, so that nothing else is read and a donated array is updated in place.
        """
        axis, (old, latest) = self.signal.time, state
        steps = x.shape[axis]
        first = max(steps - self.ring, 0)
        new = self._write(latest, np.arange(first, steps), cut(x, axis, first, steps), real)
        if steps == self.stride:
            window = self._read(new, np.arange(0, self.extent, self.dilation) - self.keep, real)
            return self.compute(self.dense, params, window, real), new
        stop = steps - self.stride + self.extent
        if steps <= self.ring - self.keep:
            window = self._read(new, np.arange(stop) - self.keep, real)
        else:
            window = cut(append(self._read(old, np.arange(-self.keep, 0), real), x, axis), axis, 0, stop)
        return self.compute(self.layer, params, window, real), new

    def _read(self, ring: Array, offsets: np.ndarray, real: Real) -> Array:
        """Return the steps at these offsets from the start of the chunk."""
        axis = self.signal.time
        if _alone(ring, offsets):
            places = [self._place(real, n) for n in offsets.tolist()]
            return lax.concatenate([lax.dynamic_slice_in_dim(ring, place, 1, axis) for place in places], axis)
        inside = (slice(None),) * (axis - 1)
        return jax.vmap(lambda row, at: row[(*inside, at)])(ring, self._places(real, offsets))

    def _write(self, ring: Array, offsets: np.ndarray, recent: Array, real: Real) -> Array:
        """Return the ring with these steps at these offsets from the start of the chunk."""
        axis = self.signal.time
        if _alone(ring, offsets):
            for number, offset in enumerate(offsets.tolist()):
                one = cut(recent, axis, number, number + 1)
                ring = lax.dynamic_update_slice_in_dim(ring, one, self._place(real, offset), axis)
            return ring
        inside = (slice(None),) * (axis - 1)
        return jax.vmap(lambda row, at, new: row.at[(*inside, at)].set(new, unique_indices=True))(
            ring, self._places(real, offsets), recent
        )

    def _places(self, real: Real, offsets: np.ndarray) -> Array:
        return self.base + ((real.start[:, None] + jnp.asarray(offsets, jnp.int32)[None]) & (self.ring - 1))

    def _place(self, real: Real, offset: int) -> Array:
        """Return a slot in a ring of one row; unsigned, because JAX compares a signed index with zero."""
        start = real.start[0].astype(jnp.uint32) + np.uint32(offset % self.ring)
        return np.uint32(self.base) + (start & np.uint32(self.ring - 1))

    def compute(self, layer: Any, params: Any, window: Array, real: Real) -> Array:
        """Return the outputs of the layer over the steps that they read."""
        return infer(layer, params, window)

    def multiply_adds(self, steps: int) -> int | None:
        return super().multiply_adds((steps // self.stride - 1) * self.stride + self.extent)


def _alone(ring: Array, offsets: np.ndarray) -> bool:
    """Return whether a ring has one row and few steps are used: slices then take less time than gather and scatter."""
    return isinstance(ring.shape[0], int) and ring.shape[0] == 1 and len(offsets) <= MOST_SLICES


@dataclasses.dataclass(frozen=True, eq=False)
class Pool(Slide):
    """Pool over the kept and the new steps; invalid steps are ignored.

    pads: the padding of the other axes, which is applied before the layer.
    """

    pads: tuple[tuple[int, int], ...] = ()

    def compute(self, layer: Any, params: Any, window: Array, real: Real) -> Array:
        if not self.fill and not any(map(any, self.pads)):
            return infer(layer, params, window)
        axis, steps = self.signal.time, window.shape[self.signal.time]
        mask = spread(real(-self.keep, steps), window.ndim, axis)
        sizes = [n if any(pad) else m for n, m, pad in zip(window.shape, mask.shape, self.pads, strict=True)]
        outside = [(*pad, 0) for pad in self.pads]
        mask = lax.pad(jnp.broadcast_to(mask, sizes), np.array(False), outside)
        window = lax.pad(window, jnp.asarray(layer.masked_value, window.dtype), outside)
        return layer.call(params, window, train=False, key=None, mask=mask)[0]


@dataclasses.dataclass(frozen=True, eq=False)
class Overlap(Operation):
    """Add the outputs of a transposed convolution to those that earlier steps have begun.

    layer: the layer without bias, activation and padding along time. whole: the unchanged layer. output: the shape of
    the result in the sense of :class:`~jaxconv.streaming.signal.Signal`.
    """

    whole: Any = None
    extent: int = 1
    stride: int = 1
    output: tuple = ()

    @property
    def keep(self) -> int:
        """Return the number of unfinished outputs that are kept."""
        return max(self.extent - self.stride, 0)

    def init(self, batch: int) -> Array | None:
        shape = [self.keep if axis == self.signal.axis else n for axis, n in enumerate(self.output)]
        return jnp.zeros((batch, *shape[1:]), self.layer.policy.compute) if self.keep else None

    def step(self, params: Any, xs: list[Array], real: Real, state: Any) -> tuple[Array, Any]:
        x, axis = self.read(xs[0], real), self.signal.time
        steps = x.shape[axis]
        own = {leaf: value for leaf, value in params.items() if leaf != "bias"}
        y = infer(self.layer, own, x)
        total, zero = steps * self.stride + self.keep, jnp.zeros((), y.dtype)
        y = lax.pad(y, zero, [(0, total - y.shape[axis] if a == axis else 0, 0) for a in range(y.ndim)])
        if state is not None:
            y = y + lax.pad(state, zero, [(0, total - self.keep if a == axis else 0, 0) for a in range(y.ndim)])
        new = cut(y, axis, steps * self.stride, total) if self.keep else None
        y, channels = cut(y, axis, 0, steps * self.stride), -1 if self.whole.data_format == "channels_last" else 1
        if self.whole.use_bias:
            y = y + params["bias"].astype(y.dtype).reshape([-1 if a == channels % y.ndim else 1 for a in range(y.ndim)])
        return activate(self.whole.activation, y, channels), new


@dataclasses.dataclass(frozen=True, eq=False)
class Interpolate(Operation):
    """Interpolate between the steps before and after; at both ends the weights of the valid steps add to one.

    reach: the number of steps that are read on either side. factor: outputs per step.
    """

    reach: int = 1
    factor: int = 1

    def init(self, batch: int) -> Array | None:
        return self.kept(batch, 2 * self.reach)

    def step(self, params: Any, xs: list[Array], real: Real, state: Any) -> tuple[Array, Any]:
        x, axis = self.read(xs[0], real), self.signal.time
        steps, window = x.shape[axis], append(state, x, axis)
        mask = spread(real(-2 * self.reach, steps + 2 * self.reach), x.ndim, axis)
        y = self.layer.call(params, window, train=False, key=None, mask=mask)[0]
        new = cut(window, axis, steps, steps + 2 * self.reach)
        return cut(y, axis, self.reach * self.factor, (self.reach + steps) * self.factor), new


@dataclasses.dataclass(frozen=True, eq=False)
class Cumulate(Operation):
    """Pool over all valid steps until now: the last output is that of the whole sequence.

    maximum: whether to keep the maximum instead of the average. others: the other axes that are pooled.
    """

    multiplies: ClassVar[bool] = False
    maximum: bool = False
    others: tuple[int, ...] = ()

    def init(self, batch: int) -> Any:
        pooled, sizes = (*self.others, self.signal.time), self.signal.array_shape(batch, 1)
        shape = tuple(n for a, n in enumerate(sizes) if a not in pooled)
        dtype = promote(self.layer.policy.compute, np.float32)
        value = jnp.full(shape, -jnp.inf if self.maximum else 0, dtype)
        return value if self.maximum else {"total": value, "count": jnp.zeros((batch,), dtype)}

    def step(self, params: Any, xs: list[Array], real: Real, state: Any) -> tuple[Array, Any]:
        x, axis = self.layer._input(xs[0]), self.signal.time
        mask = real(0, x.shape[axis])
        wide, dtype = promote(x.dtype, np.float32), x.dtype
        value = jnp.where(spread(mask, x.ndim, axis), x.astype(wide), jnp.asarray(self.layer.masked_value, wide))
        value = jnp.moveaxis(value, axis, 1)
        spatial = tuple(a + (a < axis) for a in self.others)
        if self.maximum:
            value = lax.cummax(jnp.maximum(value.max(spatial) if spatial else value, state[:, None]), 1)
            return self._shaped(jnp.where(value == -jnp.inf, jnp.zeros((), wide), value).astype(dtype)), value[:, -1]
        value = value.mean(spatial) if spatial else value
        total = state["total"][:, None] + jnp.cumsum(value, 1)
        count = state["count"][:, None] + jnp.cumsum(mask.astype(wide), 1)
        y = total / jnp.maximum(count, 1).reshape(*count.shape, *(1,) * (total.ndim - 2))
        return self._shaped(y.astype(dtype)), {"total": total[:, -1], "count": count[:, -1]}

    def _shaped(self, y: Array) -> Array:
        """Return the outputs with the pooled axes at size 1, if the layer keeps them."""
        if not self.layer.keepdims:
            return y
        gone = sorted((*self.others, self.signal.time))
        return jnp.expand_dims(y, [axis + 1 for axis in gone])


@dataclasses.dataclass(frozen=True, eq=False)
class Repeat(Operation):
    """Run a recurrent layer, one with ``return_sequences``, starting from the states after the last step."""

    def init(self, batch: int) -> Any:
        return self.layer.initial_states(self.signal.array_shape(batch, 1))

    def step(self, params: Any, xs: list[Array], real: Real, state: Any) -> tuple[Array, Any]:
        x = self.read(xs[0], real)
        return self.layer.run(params, x, state, spread(real(0, x.shape[1]), x.ndim, 1))


@dataclasses.dataclass(frozen=True, eq=False)
class Frame(Operation):
    """Apply a layer that reads the whole time axis to the last ``frames`` steps, at each step."""

    frames: int = 1

    def init(self, batch: int) -> Array | None:
        return self.kept(batch, self.frames - 1)

    def step(self, params: Any, xs: list[Array], real: Real, state: Any) -> tuple[Array, Any]:
        x, axis = self.read(xs[0], real), self.signal.time
        batch, steps, window = x.shape[0], x.shape[axis], append(state, x, axis)
        new = cut(window, axis, steps, steps + self.frames - 1) if self.frames > 1 else None
        frames = np.arange(steps)[:, None] + np.arange(self.frames)  # slices would take minutes to compile
        each = jnp.moveaxis(jnp.take(window, frames, axis, mode="clip"), axis, 1)
        y = infer(self.layer, params, each.reshape(batch * steps, *each.shape[2:]))
        return y.reshape(batch, steps, *y.shape[1:]), new

    def multiply_adds(self, steps: int) -> int | None:
        count = self.layer.multiply_adds(self.signal.sized(self.frames))
        return None if count is None else count * steps
