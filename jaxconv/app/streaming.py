"""Streaming over a file or standard input, chunk by chunk, without loading it into memory in one piece."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np

from jaxconv.app.array_files import map_npy
from jaxconv.app.schema import ConfigError
from jaxconv.contract.display import format_shapes
from jaxconv.errors import require
from jaxconv.files.atomic import replacing
from jaxconv.progress import Display
from jaxconv.streaming import Stream
from jaxconv.streaming.stream import RUN_STEPS
from jaxconv.training.data import device_dtype

AUDIO = (".wav", ".flac")


@dataclasses.dataclass(frozen=True)
class Source:
    """A sequence that is read chunk by chunk.

    name: for messages. chunks: batch first, time at the stream's axis; all of one size but the last. dtype: of the
    chunks. length: its steps, or None if unknown until its end. batch: its rows, or None without a batch axis.
    rate: for audio, steps per second.
    """

    name: str
    chunks: Iterator[np.ndarray]
    dtype: np.dtype
    length: int | None = None
    batch: int | None = None
    rate: int | None = None


def pick_chunk(stream: Stream, chunk: int | None, least: bool) -> int:
    """Return the number of steps to run at a time: as given, the block (``least``), or one with little overhead."""
    if chunk is None:
        return stream.block if least else stream.block * math.ceil(RUN_STEPS / stream.block)
    if chunk < 1 or chunk % stream.block:
        low = max(chunk, 0) // stream.block * stream.block
        near = f"{low} or {low + stream.block}" if low else str(stream.block)
        what = f"--chunk {chunk} is not a positive multiple of the block of {stream.block} steps"
        raise ConfigError(f"{what}; give {near}")
    return chunk


# -- input


@contextlib.contextmanager
def open_source(stream: Stream, source: str, chunk: int, stdin: IO[bytes]) -> Iterator[Source]:
    """Open an ``.npy`` file, an audio file, or "-" for raw float32 frames on standard input.

    Raises ConfigError for an input that cannot be read or that the stream does not take; ImportError without soundfile.
    """
    if not isinstance(stream.input_shape, tuple) or len(stream.plan.outputs) > 1:
        raise ConfigError(
            f"jaxconv stream runs models of one input and one output; this one takes "
            f"{format_shapes(stream.input_shape)} and has {len(stream.plan.outputs)}; use jaxconv.stream in Python"
        )
    if source == "-":
        yield Source("standard input", _raw_chunks(stream, chunk, stdin), np.dtype("float32"))
    elif source.endswith(AUDIO):
        with _audio_source(stream, source, chunk) as opened:
            yield opened
    elif source.endswith(".npy"):
        yield _npy_source(stream, source, chunk)
    else:
        raise ConfigError(f"{source}: give an .npy file, an audio file ({', '.join(AUDIO)}), or - for standard input")


def _frame(stream: Stream) -> tuple[int, ...]:
    """Return the shape of one step of the input."""
    return tuple(n for axis, n in enumerate(stream.input_shape) if axis not in (0, stream.axis))


def _npy_source(stream: Stream, path: str, chunk: int) -> Source:
    x, expected = map_npy(path), stream.input_shape
    if x.dtype.kind not in "fiub":
        raise ConfigError(f"{path} has dtype {x.dtype}; real numbers are expected")
    batch = None if x.ndim == len(expected) - 1 else len(x)
    whole = x[None] if batch is None else x
    fits = whole.ndim == len(expected) and all(n in (None, m) for n, m in zip(expected, whole.shape, strict=True))
    if not fits or not whole.size:
        raise ConfigError(
            f"{path} has shape {x.shape}; {expected}, or {expected[1:]} for one sequence, is expected, with any size "
            f"for None and time on axis {stream.axis} of the first"
        )
    dtype = np.dtype("float32") if x.dtype.kind == "f" else device_dtype(x.dtype)
    length, before = whole.shape[stream.axis], (slice(None),) * stream.axis
    chunks = (whole[(*before, slice(at, at + chunk))].astype(dtype) for at in range(0, length, chunk))
    return Source(path, chunks, dtype, length, batch)


@contextlib.contextmanager
def _audio_source(stream: Stream, path: str, chunk: int) -> Iterator[Source]:
    soundfile = require("soundfile", "reading audio")
    if not Path(path).is_file():
        raise ConfigError(f"{path}: no such file; an audio file is expected")
    try:
        with soundfile.SoundFile(path) as file:
            if _frame(stream) != (file.channels,):
                raise ConfigError(
                    f"{path} has steps of shape {(file.channels,)}, a number for each channel; the model takes steps "
                    f"of shape {_frame(stream)}; give audio with as many channels"
                )
            blocks = (file.read(chunk, dtype="float32", always_2d=True) for _ in range(0, file.frames, chunk))
            chunks = (np.moveaxis(block[None], 1, stream.axis) for block in blocks)
            yield Source(path, chunks, np.dtype("float32"), file.frames, rate=file.samplerate)
    except soundfile.SoundFileError as error:
        raise ConfigError(f"{path} cannot be read as audio: {error}") from None


def _raw_chunks(stream: Stream, chunk: int, stdin: IO[bytes]) -> Iterator[np.ndarray]:
    frame = _frame(stream)
    size = 4 * math.prod(frame)
    while content := stdin.read(chunk * size):
        if len(content) % size:
            raise ConfigError(
                f"standard input ends within a step: {len(content) % size} of the {size} bytes of one, which is "
                f"float32 of shape {frame}"
            )
        steps = np.frombuffer(content, "<f4").reshape(1, -1, *frame)
        yield np.moveaxis(steps, 1, stream.axis).astype("float32")


# -- computation


@dataclasses.dataclass
class Clock:
    """The number of input steps that have been computed, and the seconds that this took."""

    steps: int = 0
    seconds: float = 0.0

    def speed(self, rate: int | None) -> tuple[str, float]:
        """Return a name and a number: steps per second, or seconds of audio per second."""
        per_second = self.steps / max(self.seconds, 1e-9)
        return ("steps/s", per_second) if rate is None else ("times real time", per_second / rate)


def run_chunks(stream: Stream, params: Any, source: Source, chunk: int, clock: Clock) -> Iterator[np.ndarray]:
    """Return the unmasked outputs as they are computed, batch first; compile before the clock starts.

    Raises ValueError for a length at which the model has no output, or one that differs from that of its stream.
    """
    axis, batch, signal = stream.axis, source.batch or 1, stream.plan.results[0]
    if source.length is not None:
        stream.plan.check_length(source.length)
        chunk = min(chunk, stream.plan.steps_needed(source.length, [signal]))  # a larger one would compute unused steps
    empty = np.zeros(stream.plan.signals[0].array_shape(batch, 0), source.dtype)
    step = jax.jit(stream.step, donate_argnums=1)
    state, fed = stream.init(batch), 0

    def outputs(x: np.ndarray) -> np.ndarray:
        nonlocal state, fed
        start, count = time.perf_counter(), x.shape[axis]
        x = np.pad(x, [(0, chunk - count if a == axis else 0) for a in range(x.ndim)])
        y, mask, state = step(params, state, x, np.broadcast_to(np.arange(chunk) < count, (batch, chunk)))
        real = np.flatnonzero(np.asarray(mask)[0])
        y = np.asarray(y)
        y = y if y.dtype == np.float64 else y.astype(np.float32)
        fed += chunk
        clock.steps += count
        clock.seconds += time.perf_counter() - start
        return np.take(y, real, signal.time)

    outputs(empty)  # compiles, and runs for the first time, before the clock and the sequence start
    state, fed, clock.seconds = stream.init(batch), 0, 0.0

    def real_outputs() -> Iterator[np.ndarray]:
        for x in source.chunks:
            yield outputs(x)
        stream.plan.check_length(clock.steps)
        while fed < stream.plan.steps_needed(clock.steps, [signal]):
            yield outputs(empty)

    return real_outputs()


def stream_to_file(stream: Stream, params: Any, source: Source, out: str, chunk: int) -> str:
    """Write all outputs to an ``.npy`` file, created only when it is complete; return a line to print."""
    assert source.length is not None
    clock, signal, at, start = Clock(), stream.plan.results[0], 0, 0
    shape = signal.array_shape(source.batch or 1, signal.lengths(source.length))
    own = shape if source.batch is not None else shape[1:]
    outputs = run_chunks(stream, params, source, chunk, clock)
    with replacing(out) as handle, Display(source.length, unit="step") as progress:
        for y in outputs:
            if not start:
                header = {"descr": y.dtype.str, "fortran_order": False, "shape": own}
                np.lib.format.write_array_header_2_0(handle, header)
                start = handle.tell()
            rows = y.reshape(math.prod(shape[: signal.time]), -1)
            step = math.prod(shape[signal.time + 1 :]) * y.itemsize
            for row, values in enumerate(rows):  # the axes before time come first in the file
                handle.seek(start + (row * shape[signal.time] + at) * step)
                handle.write(np.ascontiguousarray(values).data)
            at += y.shape[signal.time]
            progress.update(clock.steps, dict([clock.speed(source.rate)]))
    return f"{_figures(source, clock, at)}; {format_shapes(own)} in {out}"


def stream_to_pipe(stream: Stream, params: Any, source: Source, write: Callable[[bytes], bool], chunk: int) -> str:
    """Write each output as raw float32, time first, until ``write`` returns False; return a line to print."""
    if source.batch not in (None, 1):
        raise ConfigError(f"{source.name} has {source.batch} rows; raw outputs are those of one; give --out Y.npy")
    clock, signal, count = Clock(), stream.plan.results[0], 0
    for y in run_chunks(stream, params, source, chunk, clock):
        count += y.shape[signal.time]
        if not write(np.moveaxis(y, signal.time, 0).astype("<f4").tobytes()):
            break
    shape = tuple(n for a, n in enumerate(signal.array_shape(1, 1)) if a not in (0, signal.time))
    return f"{_figures(source, clock, count)} of shape {shape}, float32"


def _figures(source: Source, clock: Clock, count: int) -> str:
    """Return the amount of work and its speed as text: ``400 steps in 0.02 s, 20,000 steps/s: 200 outputs``."""
    what = f"{clock.steps:,} steps"
    if source.rate is not None:
        what = f"{clock.steps / source.rate:,.2f} s of audio at {source.rate} Hz"
    unit, speed = clock.speed(source.rate)
    return f"{source.name}: {what} in {clock.seconds:.2f} s, {speed:,.3g} {unit}: {count:,} outputs"
