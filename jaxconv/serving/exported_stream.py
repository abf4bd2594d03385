"""The step of a stream as one program with the state as an argument. Must not import ``jaxconv.streaming``."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from jaxconv.serving.inputs import cast_inputs, is_shape, map_shapes, resolve_dtypes


class Program(NamedTuple):
    """The parts of an export: a function of arrays, their shapes and types, the header, and arrays to store with it."""

    name: str
    function: Callable
    specs: tuple
    header: dict[str, Any]
    arrays: dict[str, Any]


def stream_program(stream: Any, params: Any, chunk: int | None, dtype: Any) -> Program:
    """Return the step of a stream for chunks of one size and any batch size. Raises ValueError.

    The function takes (state, x, mask, reset, active), all of them arrays. The state before the first step is the same
    for all rows; the arrays contain that of one row.
    """
    chunk = stream.block if chunk is None else chunk
    if isinstance(chunk, bool) or not hasattr(chunk, "__index__") or chunk < 1 or chunk % stream.block:
        what = f"chunk={chunk!r} is not a positive multiple of the block of {stream.block} steps"
        raise ValueError(f"export: {what}; give one such as {stream.block}")
    shapes = map_shapes(
        lambda shape: (None, *(chunk if axis == stream.axis else n for axis, n in enumerate(shape) if axis)),
        stream.input_shape,
    )
    dtypes = resolve_dtypes(stream, shapes, dtype)
    (batch,) = jax_export.symbolic_shape("batch")
    row = stream.init(1)

    def spec(*shape: Any, dtype: Any = bool) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((batch, *shape), dtype)

    state = jax.tree.map(lambda leaf: spec(*leaf.shape[1:], dtype=leaf.dtype), row)
    x = map_shapes(lambda shape, kind: spec(*shape[1:], dtype=kind), shapes, dtypes)
    header = {
        "input_shape": shapes,
        "dtype": jax.tree.map(lambda kind: kind.name, dtypes),
        "stream": {"chunk": chunk, "block": stream.block, "delay": stream.delay, "flush": stream.flush},
    }
    return Program(
        stream.layer.label,
        lambda state, x, mask, reset, active: stream.step(params, state, x, mask, reset, active),
        (state, x, spec(chunk), spec(), spec()),
        header,
        {f"state/{number}": leaf for number, leaf in enumerate(jax.tree.leaves(row))},
    )


@dataclasses.dataclass(frozen=True, eq=False)
class FromFile:
    """A program that was loaded from a file.

    name: of the model that was exported. input_shape: with None where it is symbolic. dtype: the type of the input, or
    a list or dict of types for several inputs. platforms: where it runs. jax_version: the version of JAX that wrote it.
    """

    name: str
    input_shape: Any
    dtype: Any
    platforms: tuple[str, ...]
    jax_version: str
    _run: Callable = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, eq=False)
class ExportedStream(FromFile):
    """A stream from a file: ``y, mask, state = exported.step(state, x)``, for any batch size.

    input_shape: that of one chunk. chunk: the steps of one call. block, delay, flush: as in the stream.
    """

    chunk: int
    block: int
    delay: Any
    flush: int
    _row: Any = dataclasses.field(repr=False)

    @property
    def state_bytes(self) -> int:
        """Return the size of the state for one row, in bytes."""
        return sum(leaf.nbytes for leaf in jax.tree.leaves(self._row))

    def init(self, batch_size: int) -> Any:
        """Return the state before the first step. Raises ValueError for a batch size that is not positive."""
        if isinstance(batch_size, bool) or not hasattr(batch_size, "__index__") or batch_size < 1:
            raise ValueError(f"{self.name}: batch_size={batch_size!r} is not a positive integer; give one like 1")
        return jax.tree.map(lambda leaf: jnp.repeat(leaf, batch_size, 0), self._row)

    def step(self, state: Any, x: Any, mask: Any = None, reset: Any = None, active: Any = None) -> tuple[Any, Any, Any]:
        """Compute the outputs for the next ``chunk`` steps: (outputs, their mask, new state), as a stream does.

        Raises ValueError for another shape, or the state of another stream; TypeError for flags that are not boolean.
        """
        shapes = jax.tree.map(np.shape, x)
        batch = next((shape[0] for shape in jax.tree.leaves(shapes, is_leaf=is_shape) if shape), 0)
        if shapes != map_shapes(lambda shape: (batch, *shape[1:]), self.input_shape) or not batch:
            raise ValueError(f"{self.name}: was exported for chunks of shape {self.input_shape}; got {shapes}")
        kept = jax.tree.map(lambda leaf: ((batch, *leaf.shape[1:]), leaf.dtype), self._row)
        if jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)), state) != kept:
            raise ValueError(f"{self.name}: the state is of another stream or batch size; make it with init({batch})")
        x = cast_inputs(self.name, self.input_shape, self.dtype, x)
        flags = [
            self._flags("mask", mask, (batch, self.chunk), True),
            self._flags("reset", reset, (batch,), False),
            self._flags("active", active, (batch,), True),
        ]
        return self._run(state, x, *flags)

    def _flags(self, what: str, value: Any, shape: tuple, default: bool) -> Any:
        if value is None:
            return np.full(shape, default)
        value = value if hasattr(value, "dtype") else np.asarray(value)
        if value.dtype != bool:
            raise TypeError(f"{self.name}: {what} has type {value.dtype}; give an array of booleans")
        if value.shape != shape:
            raise ValueError(f"{self.name}: {what} has shape {value.shape}; this chunk needs {shape}")
        return value


def read_stream(exported: jax_export.Exported, header: Mapping[str, Any], arrays: Mapping[str, Any]) -> Any:
    """Return the fields of the stream in a file. Raises ValueError for a state that does not fit the program."""
    facts = header["stream"]
    arguments, _ = jax.tree.unflatten(exported.in_tree, exported.in_avals)
    specs, form = jax.tree.leaves(arguments[0]), jax.tree.structure(arguments[0])
    row = [arrays[f"state/{number}"] for number in range(len(specs))]
    wrong = [s for s, leaf in zip(specs, row, strict=True) if (1, *s.shape[1:]) != leaf.shape or s.dtype != leaf.dtype]
    if wrong:
        raise ValueError(f"the state in the file does not fit the program's: {wrong[0]}")
    numbers = {name: int(facts[name]) for name in ("chunk", "block", "flush")}
    return {**numbers, "delay": facts["delay"], "_row": jax.tree.unflatten(form, row)}
