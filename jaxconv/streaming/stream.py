"""``stream``: a model that runs step by step, with its state as an argument and a result."""

import dataclasses
import functools
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv.contract import Apply, Layer, as_layer
from jaxconv.errors import explain
from jaxconv.models import Model
from jaxconv.streaming.choice import Heads
from jaxconv.streaming.operation import Operation, append, cut, spread
from jaxconv.streaming.plan import Plan, make_plan
from jaxconv.streaming.signal import Signal
from jaxconv.streaming.summary import StreamSummary, summarize

Array = jax.Array
State = dict[str, Any]
RUN_STEPS = 1024  # steps of a chunk in run: the work of a chunk then outweighs the cost of starting it


@dataclasses.dataclass(frozen=True, eq=False)
class Stream:
    """A model that runs step by step; made by :func:`stream`.

    layer: the model. axis: the time axis of its inputs. plan: the operation of each call in it.

    >>> running = stream(jaxconv.Conv1D(4, 3, strides=2, padding="same"), (None, None, 2))
    >>> running.block, running.ratio, running.delay, running.flush
    (2, Fraction(1, 2), 1, 2)
    """

    layer: Layer
    axis: int
    plan: Plan

    # -- properties

    @property
    def block(self) -> int:
        """Return the number of input steps that must arrive together; a chunk is any multiple of it."""
        return self.plan.block

    @property
    def ratio(self) -> Any:
        """Return the number of output steps per input step, as a fraction; for several outputs, in their structure."""
        return self._each(lambda signal: signal.rate)

    @property
    def delay(self) -> Any:
        """Return the number of masked output steps at the start; for several outputs, in their structure."""
        return self._each(lambda signal: signal.delay)

    @property
    def flush(self) -> int:
        """Return the number of steps to feed after the end, a multiple of the block, until all outputs are returned."""
        return self.plan.flush(self.plan.results)

    @property
    def receptive_field(self) -> Any:
        """Return the number of input steps that one output step depends on, or None for all until now."""
        return self._each(lambda signal: None if signal.field is None else signal.field.size)

    @property
    def state_bytes(self) -> int:
        """Return the size of the state for one row, in bytes."""
        return self.summary()[0].state_bytes

    @property
    def multiply_adds(self) -> int | None:
        """Return the multiply-adds for one block of one row, or None if they are not known."""
        return self.summary()[0].multiply_adds

    @property
    def input_shape(self) -> Any:
        """Return the shape of the input, batch first, with None for batch and time; for several, in their structure."""
        shapes = [signal.shape for signal in self.plan.signals[: self.plan.inputs]]
        if isinstance(self.layer, Model):
            return self.layer.structure.unflatten(shapes)
        return shapes if len(shapes) > 1 else shapes[0]

    def summary(self) -> StreamSummary:
        """Return a row for the whole stream, whose name is empty, and one for each call; ``print`` shows a table."""
        return summarize(self.layer, self.plan)

    # -- running

    def init(self, batch_size: int) -> State:
        """Return the state before the first step: arrays of fixed shapes and types, batch first.

        Raises:
            ValueError: the batch size is not a positive integer.
        """
        if isinstance(batch_size, bool) or not isinstance(batch_size, numbers.Integral) or batch_size < 1:
            raise ValueError(f"stream.init: batch_size={batch_size!r} is not a positive integer; give one like 1")
        return self._start(batch_size)

    def _start(self, batch: Any) -> State:
        """Return the state before the first step for a batch that may be symbolic."""
        return {"clock": jnp.zeros((batch, 2), jnp.int32), "kept": self.plan.pack(self.plan.init(batch))}

    def step(
        self, params: Any, state: State, x: Any, mask: Any = None, reset: Any = None, active: Any = None
    ) -> tuple[Any, Any, State]:
        """Compute the outputs for the next steps of the input.

        A pure function: jit, scan, grad, vmap and export it. Donate ``state`` to update it in place.

        Args:
            params: those of the model.
            state: from ``init`` or from the last step.
            x: any multiple of ``block`` steps along time; several inputs in their structure.
            mask: (batch, steps), True at each step of the sequence; None if all are. The first False ends a row: it
                and the steps after it only flush the row's last outputs. Only a reset starts the row again.
            reset: (batch,), True for a row that starts again with this chunk.
            active: (batch,), False for a row whose state does not change; its outputs are masked.

        Returns:
            (outputs, their mask (batch, output steps), new state). Masked outputs are zero.

        Raises:
            ValueError: the block does not divide the chunk; the state is of another stream or batch size; the params
                are of another model.
            TypeError: ``mask``, ``reset`` or ``active`` is not boolean.
        """
        values = self._values(params, x, "stream.step")
        batch, steps = self._check_chunk(values, state)
        old = state
        if reset is not None:
            state = self._select(_flags(reset, (batch,), "reset"), self._start(batch), state)
        mask = jnp.ones((batch, steps), bool) if mask is None else _flags(mask, (batch, steps), "mask")
        leading = jnp.sum(jnp.cumprod(mask.astype(jnp.int32), 1), 1, dtype=jnp.int32)
        fed, real = state["clock"][:, 0], state["clock"][:, 1]
        clock = _Clock(self.plan, fed, real + jnp.where(real == fed, leading, 0), steps)
        for index, signal in enumerate(self.plan.signals[: self.plan.inputs]):  # steps after the end may be NaN
            own = spread(clock.real(signal, 0, steps), values[index].ndim, self.axis)
            values[index] = jnp.where(own, values[index], jnp.zeros((), values[index].dtype))
        kept = self.plan.pack(self._compute(params, values, self.plan.unpack(state["kept"]), clock))
        outputs, masks = [], []
        for index in self.plan.outputs:
            signal, y = self.plan.signals[index], values[index]
            own = clock.real(signal, 0, y.shape[signal.time])
            if active is not None:
                own &= _flags(active, (batch,), "active")[:, None]
            if index < self.plan.inputs:
                y = self.layer._input(y)
            outputs.append(jnp.where(spread(own, y.ndim, signal.time), y, jnp.zeros((), y.dtype)))
            masks.append(own)
        new = {"clock": clock.counters(), "kept": kept}
        if active is not None:
            new = self._select(_flags(active, (batch,), "active"), new, old)
        structure = self.layer.output_structure
        return structure.unflatten(outputs), structure.unflatten(masks), new

    def run(self, params: Any, x: Any, chunk: int | None = None) -> Any:
        """Compute the outputs of ``apply_fn`` for whole sequences, chunk by chunk in bounded memory.

        Args:
            params: those of the model.
            x: the input, all rows of the same length; several inputs in their structure.
            chunk: the number of steps to run at a time, a multiple of ``block``; by default at most about 1024.

        Returns:
            the outputs for the whole sequences, in the structure of those of ``apply_fn``.

        Raises:
            ValueError: the block does not divide the chunk; there are too few steps for an output; at this length,
                "same" padding with a stride differs from that in the stream (the message has the nearest valid
                lengths).
        """
        values = self._values(params, x, "stream.run")
        length = values[0].shape[self.axis]
        self.plan.check_length(length)
        needed = max(self.plan.steps_needed(length, self.plan.results), self.block)
        if chunk is None:  # equal chunks: steps after the end cost as much as others
            chunk = self.block * -(-needed // (self.block * -(-needed // RUN_STEPS)))
        if chunk < 1 or chunk % self.block:
            what = f"chunk={chunk} is not a positive multiple of the block of {self.block} steps"
            raise ValueError(f"stream.run: {what}; give one such as {self.block}")
        count = -(-needed // chunk)
        pads = [[(0, count * chunk - length if a == self.axis else 0) for a in range(v.ndim)] for v in values]
        values = [jnp.pad(value, pad) for value, pad in zip(values, pads, strict=True)]
        batch = values[0].shape[0]
        form: Any = jax.tree.structure(x)

        def body(state: State, start: Array) -> tuple[State, list]:
            own = [lax.dynamic_slice_in_dim(value, start, chunk, self.axis) for value in values]
            mask = jnp.broadcast_to((start + jnp.arange(chunk, dtype=jnp.int32) < length)[None], (batch, chunk))
            y, _, state = self.step(params, state, form.unflatten(own), mask)
            return state, self.layer.output_structure.flatten_up_to(y)

        _, ys = lax.scan(body, self.init(batch), jnp.arange(count, dtype=jnp.int32) * chunk)
        outputs = []
        for index, y in zip(self.plan.outputs, ys, strict=True):
            signal = self.plan.signals[index]
            y = jnp.moveaxis(y, 0, signal.time)
            y = y.reshape(*y.shape[: signal.time], -1, *y.shape[signal.time + 2 :])
            y = cut(y, signal.time, signal.delay, signal.delay + signal.lengths(length))
            outputs.append(y)
        return self.layer.output_structure.unflatten(outputs)

    # -- inside

    def _values(self, params: Any, x: Any, where: str) -> list[Array]:
        """Return the inputs as arrays. Raises ValueError or TypeError for params of another model, or no arrays."""
        self.layer.check_names(params)
        with explain(f"{where}: the input is not an array of numbers"):
            return list(map(jnp.asarray, self.layer.flat_inputs(x)))

    def _each(self, value: Any) -> Any:
        return self.layer.output_structure.unflatten(value(self.plan.signals[index]) for index in self.plan.outputs)

    def _compute(self, params: Any, values: list[Array], state: dict[str, Any], clock: "_Clock") -> dict[str, Any]:
        """Append the result of each call to ``values``; return the states for the next step."""
        kept: dict[str, Any] = {}

        def wait(key: str, x: Array, signal: Signal, steps: int) -> Array:
            both = append(state[key], x, signal.time)
            kept[key] = cut(both, signal.time, x.shape[signal.time], x.shape[signal.time] + steps)
            return cut(both, signal.time, 0, x.shape[signal.time])

        for step in self.plan.steps:
            operation: Operation = step.choice.operation
            given = [values[index] for index in step.values]
            for number, (signal, steps) in enumerate(zip(operation.inputs, step.waits, strict=True)):
                if steps:
                    x = given[number].astype(operation.layer.policy.compute)
                    given[number] = wait(f"{step.key}/input {number}", x, signal, steps)
            real = _Place(clock, operation.signal)
            with explain(step.key):
                old = state.get(step.store)
                old = (old, kept.get(step.store, old)) if step.shared else old
                y, own = operation.step(step.params(params), given, real, old)
            if own is not None:
                kept[step.store] = own
            if step.choice.late:
                y = wait(f"{step.key}/output", y, step.choice.signal, step.choice.late)
            values.append(y)
        return kept

    def _select(self, flags: Array, one: State, other: State) -> State:
        """Return the state with the rows of ``one`` where ``flags`` is True, and those of ``other`` elsewhere."""
        return jax.tree.map(lambda a, b: jnp.where(flags.reshape(-1, *(1,) * (a.ndim - 1)), a, b), one, other)

    def _check_chunk(self, values: list[Array], state: Any) -> tuple[int, int]:
        """Return (batch, steps) of a chunk. Raises ValueError for one that does not fit the stream or the state."""
        shapes = [value.shape for value in values]
        for shape, signal in zip(shapes, self.plan.signals, strict=False):
            sizes = zip(signal.shape[1:], shape[1:], strict=False)
            if len(shape) != len(signal.shape) or any(n not in (None, m) for n, m in sizes):
                takes = f"this stream takes {signal.shape}, with None for batch and steps"
                raise ValueError(f"stream.step: input of shape {shape}; {takes}")
        batch, steps = shapes[0][0], shapes[0][self.axis]
        if any((shape[0], shape[self.axis]) != (batch, steps) for shape in shapes) or steps < 1 or steps % self.block:
            low, given = steps // self.block * self.block, [shape[self.axis] for shape in shapes]
            allowed = f"give the same multiple of the block of {self.block} steps"
            raise ValueError(f"stream.step: chunks of {given}; {allowed}: {low or self.block} or {low + self.block}")
        want: Any = jax.eval_shape(lambda: self._start(batch))
        forms: list[Any] = [jax.tree.structure(tree) for tree in (want, state)]
        shape_and_type = functools.partial(jax.tree.map, lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)))
        if forms[0] != forms[1]:
            raise ValueError("stream.step: the state is not one of this stream; make it with this stream's init")
        if shape_and_type(want) != shape_and_type(state):
            rows = jnp.shape(state["clock"])
            own = f"the state is for a batch of {rows[0] if rows else '?'} or for another stream"
            raise ValueError(f"stream.step: {own}, and the input has a batch of {batch}; give stream.init({batch})")
        return batch, steps


class _Clock:
    """The position of a step in each row's sequence, and the valid steps of each value."""

    def __init__(self, plan: Plan, fed: Array, real: Array, steps: int):
        self.plan, self.fed, self.count, self.steps = plan, fed, real, steps
        self.lengths: dict[Any, Array] = {}

    def start(self, signal: Signal) -> Array:
        """Return the number of a value's first step in this chunk, (batch,); its delay is not subtracted."""
        return lax.div(self.fed, _int32(self.plan.block)) * int(signal.rate * self.plan.block)

    def real(self, signal: Signal, first: int, count: int) -> Array:
        """Return the mask (batch, count) of a value's valid steps, starting at ``first`` from the chunk's start."""
        if signal.lengths not in self.lengths:
            self.lengths[signal.lengths] = signal.lengths(self.count)
        step = self.start(signal)[:, None] + (first - signal.delay) + jnp.arange(count, dtype=jnp.int32)[None]
        return (step >= 0) & (step < self.lengths[signal.lengths][:, None])

    def counters(self) -> Array:
        """Return the number of steps that have been fed, and of the valid ones among them, (batch, 2).

        Both stay small: after a span of steps only their difference matters, and only while outputs are returned.
        """
        span = self.plan.span
        block = _int32(self.plan.block)
        fed = jnp.minimum(self.fed + self.steps, lax.div(self.count, block) * block + 4 * span)
        # whole spans are subtracted from both, several at once for a long chunk
        times = jnp.maximum(lax.div(jnp.minimum(self.count, fed), _int32(span)) - 1, 0)
        return jnp.stack([fed, self.count], 1) - (times * span)[:, None]


class _Place:
    """The position of a chunk of one value: see :class:`~jaxconv.streaming.operation.Real`."""

    def __init__(self, clock: _Clock, signal: Signal):
        self.clock, self.signal, self.start = clock, signal, clock.start(signal)

    def __call__(self, first: int, count: int) -> Array:
        return self.clock.real(self.signal, first, count)


def _int32(value: int) -> Array:
    """Return a divisor for ``lax.div``, which rounds towards zero: one operation for counts, which are positive."""
    return np.int32(value)  # type: ignore[return-value]


def _flags(value: Any, shape: tuple, what: str) -> Array:
    """Return an argument as booleans of this shape. Raises TypeError for numbers, ValueError for another shape."""
    value = jnp.asarray(value) if hasattr(value, "dtype") else jnp.asarray(np.asarray(value))
    if value.dtype != bool:
        raise TypeError(f"stream.step: {what} has type {value.dtype}; give an array of booleans")
    if value.shape != shape:
        raise ValueError(f"stream.step: {what} has shape {value.shape}; this chunk needs {shape}")
    return value


def stream(
    layer: Layer | Apply, input_shape: Any = None, axis: int = 1, pooling: str | None = None, window: int | None = None
) -> Stream:
    """Return a model as a stream: its outputs for a whole sequence, computed step by step.

    Each window along time keeps the inputs that later outputs read. Where branches meet, the earlier one is delayed.
    Padding is exact at both ends: every layer sees the zeros of its own padding. Weights are those of the model.

    Args:
        layer: any layer or model, or its ``apply_fn``. ``jaxconv.load_layer`` reads one from a file.
        input_shape: batch first, with None for time. A number for time is the length that ``Flatten`` and ``Reshape``
            use: after them, each output is that of the last so many steps. By default the shape that the model knows.
        axis: the time axis, where the batch is axis 0; the same for all inputs.
        pooling: "cumulative" lets global pooling, and recurrent layers without ``return_sequences``, read all steps
            until now: the last output is that of the whole sequence.
        window: global pooling, and any other layer that reads all steps, reads the last ``window`` steps of the input.
            Each output is then the model's on these steps. Layers before it must not pad.

    Returns:
        a :class:`Stream`.

    Raises:
        ValueError: a layer cannot run step by step (the message has the reason and what to do); the axis is not time.
        TypeError: ``layer`` is not a layer.

    >>> layer = jaxconv.Conv1D(4, 3, padding="same")
    >>> params, apply_fn = layer.init(jax.random.key(0), (None, 8, 2))
    >>> running = stream(layer, (None, None, 2))
    >>> y, mask, state = running.step(params, running.init(1), jnp.ones((1, 2, 2)))
    >>> running.delay, mask.tolist()
    (1, [[False, True]])
    """
    layer = as_layer(layer, "stream(layer, input_shape)")
    if pooling not in (None, "cumulative"):
        raise ValueError(f"stream: pooling={pooling!r} is not known; expected None, 'cumulative'")
    if window is not None and (isinstance(window, bool) or not hasattr(window, "__index__") or window < 1):
        raise ValueError(f"stream: window={window!r} is not a number of steps; give a positive integer")
    if pooling is not None and window is not None:
        raise ValueError(f"stream: pooling={pooling!r} and window={window} exclude each other; give one of them")
    if isinstance(axis, bool) or not hasattr(axis, "__index__"):
        raise TypeError(f"stream: axis={axis!r} is not an axis; give an integer such as 1")
    shape = layer.known_input_shape if input_shape is None else input_shape
    if shape is None:
        raise ValueError(f"stream: {layer.label} does not know its input; give input_shape, like (None, None, 16)")
    shape = layer.read_shape(shape)
    return Stream(layer, axis, make_plan(layer, layer.flat_inputs(shape), axis, Heads(pooling, window)))
