"""Sources of batches: arrays that are cut into batches, and loaders that yield them. Both yield :class:`Batch`."""

import contextlib
import dataclasses
import math
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxconv.training.loader_state import as_plain, from_plain

_AHEAD = 2  # batches that the background thread keeps ready


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows of an array that are read when they are needed: some of them by an index, all by ``np.asarray``."""

    array: np.ndarray
    rows: Any  # a slice with start and stop, or indices

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the rows."""
        count = self.rows.stop - self.rows.start if isinstance(self.rows, slice) else len(self.rows)
        return (count, *self.array.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """Return the dtype of the array."""
        return self.array.dtype

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        start, stop, _ = index[0].indices(self.shape[0])
        if isinstance(self.rows, slice):
            rows: Any = slice(self.rows.start + start, self.rows.start + stop)
        else:
            rows = self.rows[start:stop]
        part = self.array[(rows, *index[1:]) if index[1:] else rows]
        lazy = isinstance(rows, slice) and isinstance(part, np.memmap)
        return np.array(part) if lazy else np.asarray(part)  # a view of a file would be read later

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.asarray(self[(slice(None),)], dtype)


class Batch(NamedTuple):
    """One batch: arrays with the same number of samples, or :class:`Rows` of arrays.

    state: the state of the iterator after this batch, or None if the iterator has none.
    """

    x: Any
    y: Any = None
    sample_weight: Any = None
    state: Any = None


class Arrays(NamedTuple):
    """Arrays ``(samples, ...)``, read in batches. Memory maps are read one batch at a time.

    x: an array, or a dict of arrays for a model with several inputs.
    order: a function from the epoch, counted from 0, to the order of the samples; None keeps their order.
    """

    x: Any
    y: Any = None
    sample_weight: Any = None
    batch_size: int = 32
    order: Callable[[int], np.ndarray] | None = None

    @property
    def samples(self) -> int:
        """Return the number of samples."""
        return len(jax.tree.leaves(self.x)[0])

    @property
    def steps(self) -> int:
        """Return the number of batches in an epoch."""
        return math.ceil(self.samples / self.batch_size)

    def stream(self, epoch: int, epochs: int, skip: int, state: Any = None) -> Iterator[Batch | None]:
        """Yield the batches from ``epoch`` onwards, without the first ``skip``, and None at the end of each epoch."""
        for current in range(epoch, epochs):
            order = None if self.order is None else self.order(current)
            for start in range(self.batch_size * (skip if current == epoch else 0), self.samples, self.batch_size):
                rows: Any = slice(start, min(start + self.batch_size, self.samples))
                if order is not None:
                    rows = order[rows]
                yield Batch(*jax.tree.map(lambda array, rows=rows: Rows(array, rows), self[:3]))
            yield None

    def part(self, rows: Any) -> "Arrays":
        """Return the given rows of all arrays."""
        x, y, weight = (jax.tree.map(lambda array: array[rows], part) for part in (self.x, self.y, self.sample_weight))
        return Arrays(x, y, weight, self.batch_size)


class Loader(NamedTuple):
    """An object that yields batches ``x``, ``(x, y)`` or ``(x, y, sample_weight)``.

    batches: the object: a sequence, an iterable or an iterator.
    steps: the number of batches in an epoch, or None if it is not known.
    continues: whether an epoch continues where the previous one stopped; otherwise each epoch is a separate pass.
    """

    batches: Any
    steps: int | None
    continues: bool

    def stream(self, epoch: int, epochs: int, skip: int, state: Any = None) -> Iterator[Batch | None]:
        """Yield the batches from ``epoch`` onwards, without the first ``skip``, and None at the end of each epoch.

        With ``state`` the iterator continues from there. Without it, the batches up to this position are read first.
        """
        iterator, done = self._open(state), skip
        between_passes = state is not None and skip == 0  # the state may be that of an iterator at its end
        before = epoch * (self.steps or 0) if self.continues else 0
        for _ in range(0 if state is not None else before + skip):
            iterator = self._next(iterator)[1]
        for current in range(epoch, epochs):
            if self.continues:
                for _ in range((self.steps or 0) - done):
                    item, iterator = self._next(iterator)
                    yield self._batch(item, iterator)
            else:
                empty = done == 0
                for item in self._after_end(iterator) if between_passes else iterator:
                    yield self._batch(item, iterator)
                    empty = False
                between_passes = False
                if empty:
                    raise ValueError(f"the {_kind(self.batches)} yields no batch; at least one is expected")
                if current + 1 < epochs:
                    if hasattr(self.batches, "on_epoch_end"):
                        self.batches.on_epoch_end()  # Keras's PyDataset shuffles here
                    iterator = self._open(None)
            done = 0
            yield None

    def _open(self, state: Any) -> Iterator[Any]:
        batches: Any = self.batches
        iterator: Any
        if state is not None and self.keeps_state:
            batches.load_state_dict(from_plain(state))
        if hasattr(batches, "as_numpy_iterator"):  # tf.data
            iterator = iter(batches.as_numpy_iterator())
        elif hasattr(batches, "__iter__"):
            iterator = iter(batches)
        else:
            iterator = (batches[i] for i in range(len(batches)))
        if state is not None and not self.keeps_state:
            iterator.set_state(from_plain(state))
        return iterator

    @property
    def keeps_state(self) -> bool:
        """Return whether the loader itself has a state, which it keeps from one pass to the next."""
        return hasattr(self.batches, "load_state_dict")

    def _after_end(self, iterator: Iterator[Any]) -> Iterator[Any]:
        """Yield the batches of an iterator, or those of the next pass if it is at its end."""
        empty = True
        for item in iterator:
            yield item
            empty = False
        if empty:
            yield from self._open(None)

    def _batch(self, item: Any, iterator: Any) -> Batch:
        """Convert an item of the loader to a batch of NumPy arrays, with the state after it."""
        parts = item if isinstance(item, tuple | list) else (item,)
        if not 1 <= len(parts) <= 3:
            raise ValueError(f"a batch has {len(parts)} parts; expected x, (x, y) or (x, y, sample_weight)")
        state = None
        if self.keeps_state:
            state = self.batches.state_dict()
        elif hasattr(iterator, "set_state"):
            state = iterator.get_state()
        x, y, weight = (*(jax.tree.map(as_numpy, part) for part in parts), None, None)[:3]
        return Batch(x, y, weight, as_plain(state))

    def _next(self, iterator: Iterator[Any]) -> tuple[Any, Iterator[Any]]:
        """Return the next batch and the iterator; at its end, start another pass if possible."""
        for item in iterator:
            return item, iterator
        again = iter(()) if iterator is self.batches else self._open(None)
        for item in again:
            return item, again
        raise ValueError(f"the {_kind(self.batches)} has ended; every epoch takes steps_per_epoch={self.steps} batches")


def _kind(value: Any) -> str:
    return type(value).__name__


def source(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    batch_size: int = 32,
    steps_per_epoch: int | None = None,
    epochs: int = 1,
    name: str = "x",
) -> Arrays | Loader:
    """Return the source of batches for the data of ``fit``, ``evaluate`` or ``validation_data``.

    Args as in ``fit``; ``name`` is the name of ``x`` in messages. Raises ValueError or TypeError for invalid data.
    """
    if not is_loader(x, numbers=y is not None):
        if steps_per_epoch is not None:
            raise ValueError(f"steps_per_epoch={steps_per_epoch} with arrays; it is for loaders")
        if y is None:
            raise TypeError(f"y is missing: {name} is an array; give x and y, or a loader that yields (x, y)")
        return Arrays(*_samples(x, y, sample_weight), batch_size=batch_size)
    for other, value in (("y", y), ("sample_weight", sample_weight)):
        if value is not None:
            raise ValueError(f"{name} is a {_kind(x)}, which yields all parts of a batch; {other} must not be given")
    if not hasattr(x, "__iter__") and not hasattr(x, "as_numpy_iterator") and not _length(x):
        raise TypeError(f"{name} is a {_kind(x)}; give arrays, or an object that yields batches (x, y)")
    if steps_per_epoch is None and epochs > 1 and isinstance(x, Iterator):
        raise ValueError(f"{name} is a {_kind(x)}, which can be read once; give steps_per_epoch, or a list or loader")
    return Loader(x, steps_per_epoch or _length(x), steps_per_epoch is not None)


def is_loader(x: Any, numbers: bool = False) -> bool:
    """Return whether ``x`` yields batches, unlike an array or a dict.

    With ``numbers``, a list yields batches only if its items are tuples of arrays, or dicts.
    """
    array = isinstance(x, Mapping) or hasattr(x, "__array__") or (hasattr(x, "shape") and hasattr(x, "dtype"))
    if numbers and isinstance(x, list | tuple):
        tuples = bool(x) and isinstance(x[0], list | tuple) and hasattr(x[0][0], "shape")
        return tuples or (bool(x) and isinstance(x[0], Mapping))
    return not array


def lists_batches(x: Any) -> bool:
    """Return whether ``x`` is a list of arrays with two or more axes, which ``predict`` reads as batches."""
    return isinstance(x, list | tuple) and bool(x) and all(getattr(item, "ndim", 0) > 1 for item in x)


def _length(batches: Any) -> int | None:
    try:
        return len(batches) or None
    except TypeError:  # also of a tf.data.Dataset whose length is not known
        return None


def _samples(x: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
    named = dict(x) if isinstance(x, Mapping) else {"x": x}
    arrays = as_samples(**named, y=y, **({} if sample_weight is None else {"sample_weight": sample_weight}))
    weight = None if sample_weight is None else arrays.pop("sample_weight")
    y = arrays.pop("y")
    return (arrays if isinstance(x, Mapping) else arrays["x"]), y, weight


def as_samples(**named: Any) -> dict[str, Any]:
    """Convert data to arrays of numbers with the same number of samples, at least one; ``y`` may contain class names.

    Raises TypeError or ValueError for other data. Memory maps are not read.
    """
    arrays = {name: array if isinstance(array, np.ndarray) else _joined(name, array) for name, array in named.items()}
    for name, array in arrays.items():
        if array.ndim == 0 or len(array) == 0:
            raise ValueError(f"{name} has shape {array.shape}; at least one sample is expected, samples first")
        labels = name == "y" and array.dtype.kind in "USO"
        if not labels and not (array.dtype.kind in "biufc" or jax.numpy.issubdtype(array.dtype, np.number)):
            raise TypeError(f"{name} has dtype {array.dtype}; numbers are expected")
    first, *others = arrays
    for name in others:
        sizes = len(arrays[first]), len(arrays[name])
        if sizes[0] != sizes[1]:
            raise ValueError(f"{first} has {sizes[0]} samples and {name} has {sizes[1]}; the numbers must be equal")
    return arrays


def _joined(name: str, values: Any) -> np.ndarray:
    """Return array-like values as one array. Raises ValueError if the items of a list have different shapes."""
    try:
        return np.asarray(values)
    except ValueError:
        got = f"{name} is a {_kind(values)} whose items have different shapes"
        raise ValueError(f"{got}; give one array (samples, ...), or a loader of batches") from None


def as_numpy(array: Any) -> Any:
    """Convert an array, or a tensor of PyTorch or TensorFlow, to a NumPy array."""
    return np.asarray(array.detach().cpu() if hasattr(array, "detach") else array)


@contextlib.contextmanager
def reading(
    of: Arrays | Loader,
    epoch: int = 0,
    epochs: int = 1,
    skip: int = 0,
    state: Any = None,
    *,
    place: Callable[[Batch], Batch],
) -> Iterator[Iterator[Batch | None]]:
    """Open the stream of a source. A background thread reads it, two batches ahead, and ends with the block.

    Args:
        place: a function that the thread applies to each batch: it prepares the targets, reads the rows and puts them
            on the devices.
        others: as in ``of.stream``.
    """
    stream = of.stream(epoch, epochs, skip, state)
    ready: queue.Queue[Any] = queue.Queue(_AHEAD)
    end = threading.Event()
    x64 = jax.config.jax_enable_x64  # type: ignore[attr-defined]

    def put(item: Any) -> None:
        while not end.is_set():
            with contextlib.suppress(queue.Full):
                return ready.put(item, timeout=0.1)

    def work() -> None:
        try:
            with jax.enable_x64(x64):  # the setting of the training thread
                for item in stream:
                    put((None if item is None else place(item), None))
                    if end.is_set():
                        return
            put((StopIteration, None))
        except BaseException as error:  # raised again in the thread that waits for the batch
            put((None, error))

    def items() -> Iterator[Batch | None]:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is StopIteration:
                return
            yield item

    thread = threading.Thread(target=work, name="jaxconv-loader", daemon=True)
    thread.start()
    try:
        yield items()
    finally:
        end.set()
        thread.join(timeout=1.0)  # a loader that waits for its next batch must not hold up an interruption


def host_array(array: Any) -> np.ndarray:
    """Return an array whose integers do not wrap on the device.

    Without 64-bit types JAX converts int64 to int32, and integers outside int32 wrap. Such a batch becomes float32.
    Foreign byte order, which JAX does not support, becomes native.
    """
    batch = np.asarray(array)
    if narrows(batch.dtype) and batch.size:
        limits = np.iinfo(device_dtype(batch.dtype))
        if batch.min() < limits.min or batch.max() > limits.max:
            return batch.astype(np.float32)
    return batch.astype(batch.dtype.newbyteorder("="), copy=False)


def narrows(dtype: np.dtype) -> bool:
    """Return whether integers of this dtype have fewer bits on the device, where the values determine the dtype."""
    return dtype.kind in "iu" and device_dtype(dtype).itemsize < dtype.itemsize


def device_dtype(dtype: np.dtype) -> np.dtype:
    """Return the dtype of an array of this dtype on the device.

    >>> device_dtype(np.dtype(">i8"))
    dtype('int32')
    """
    return jax.dtypes.canonicalize_dtype(dtype.newbyteorder("="))
