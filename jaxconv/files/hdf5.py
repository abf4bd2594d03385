"""Reader for untrusted HDF5 files: it follows no links out of the file, and checks sizes before it reads bytes."""

import contextlib
import functools
import io
import math
import mmap
import os
from collections.abc import Iterator
from typing import IO, Any

import ml_dtypes
import numpy as np

from jaxconv.errors import require
from jaxconv.files.bounds import budget
from jaxconv.files.errors import FileError, damaged
from jaxconv.files.hdf5_chunks import check_chunks
from jaxconv.files.hdf5_heap import OFFSETS, SIGNATURE, Heaps

OBJECTS = 20_000  # the largest number of groups and tables; the largest of Keras's own models have 5,000
DEPTH = 64  # the deepest nesting of groups
_PARTS = 100  # the largest number of attributes that a list of names may be split into


def is_hdf5(handle: Any) -> bool:
    """Return whether an open file begins with HDF5's signature, after an optional user block of up to 4096 bytes."""
    handle.seek(0)
    start = handle.read(OFFSETS[-1] + len(SIGNATURE))
    return any(start[offset:].startswith(SIGNATURE) for offset in OFFSETS)


def folders_of(name: str) -> Iterator[str]:
    """Yield the path of each group that an object is in, from the outermost: "layers/", "layers/dense/"."""
    place = name.find("/")
    while place >= 0:
        yield name[: place + 1]
        place = name.find("/", place + 1)


class Table:
    """A table of numbers in the file. Its shape and its numbers are read on demand."""

    def __init__(self, store: "Store", name: str):
        self._store, self.name = store, name

    @functools.cached_property
    def _dataset(self) -> Any:
        return self._store.open(self.name)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the table. Raises FileError."""
        with damaged(self._store.path, f"table {self.name!r}"):
            return tuple(self._dataset.shape or ())

    def read(self) -> np.ndarray:
        """Read the numbers: floats (bfloat16 included) or integers. Raises FileError."""
        where = f"{self._store.path}: table {self.name!r}"
        with damaged(self._store.path, f"table {self.name!r}"):
            dataset = self._dataset
            kind = dataset.dtype
            half = kind.kind == "V" and kind.itemsize == 2 and self._store.text(dataset, "dtype") == "bfloat16"
            if not half and kind.kind not in "fiu":
                raise FileError(f"{where} has type {kind}; numbers are expected")
            if dataset.shape is None:
                raise FileError(f"{where} is empty")
            if dataset.is_virtual or dataset.id.get_create_plist().get_external_count():
                raise FileError(f"{where} stores its numbers in another file, which is not opened")
            size, count = math.prod(dataset.shape) * kind.itemsize, 0
            if dataset.chunks is not None:
                count = math.prod(-(-n // chunk) for n, chunk in zip(dataset.shape, dataset.chunks, strict=True))
                size = max(size, count * math.prod(dataset.chunks) * kind.itemsize)
            self._store.spend(size, count, where)
            check_chunks(where, dataset)
            value = np.asarray(dataset[()])
        return value.view(ml_dtypes.bfloat16) if half else value


class Store:
    """An open HDF5 file: ``tables`` by path, the paths of ``groups``, and strings in attributes.

    Objects under ``skip`` (optimizer states) are not read. A backslash in a name, written on Windows, is read as "/".
    """

    def __init__(self, path: Any, file: Any, size: int, heaps: Heaps, skip: tuple[str, ...] = ()):
        self.path, self._file, self._heaps = path, file, heaps
        self._size, self._left = size, budget(size)
        self._chunks = 2**14 + size // 2**9
        self.tables: dict[str, Table] = {}
        self._groups: dict[str, bytes] = {"": b"/"}
        self._paths: dict[str, bytes] = {}
        self._walk(skip)

    @property
    def groups(self) -> Any:
        """The paths of all groups."""
        return self._groups.keys()

    def _walk(self, skip: tuple[str, ...]) -> None:
        import h5py

        root = self._file.id
        seen, pending, count = {h5py.h5o.get_info(root).addr}, [(b"", root)], 0
        while pending:
            prefix, group = pending.pop()
            for name, kind in self._links(group):
                path = prefix + name
                full = _decoded(self.path, path)
                if full in skip:
                    continue
                count += 1
                if count > OBJECTS or full.count("/") > DEPTH:
                    raise FileError(f"{self.path}: more than {OBJECTS} groups and tables, or more than {DEPTH} deep")
                if kind != h5py.h5l.TYPE_HARD:
                    raise FileError(f"{self.path}: {full!r} is a soft or external link, which is not followed")
                info = h5py.h5o.get_info(group, name)
                clean = full.replace("\\", "/")
                if info.type == h5py.h5o.TYPE_DATASET:
                    self.tables[clean], self._paths[clean] = Table(self, clean), path
                elif info.type == h5py.h5o.TYPE_GROUP:
                    if info.addr in seen:
                        raise FileError(f"{self.path}: group {full!r} is linked twice; a tree of groups is expected")
                    seen.add(info.addr)
                    self._groups[clean] = path
                    pending.append((path + b"/", h5py.h5g.open(group, name)))

    @staticmethod
    def _links(group: Any) -> list[tuple[bytes, int]]:
        """List the names and types of a group's links, up to the limit for a file."""
        found: list[tuple[bytes, int]] = []

        def add(name: bytes, info: Any) -> bool:
            found.append((name, info.type))
            return len(found) > OBJECTS  # ends the iteration

        group.links.iterate(add, info=True)
        return found

    def open(self, name: str) -> Any:
        """Return the h5py dataset of a table."""
        import h5py

        return h5py.Dataset(h5py.h5d.open(self._file.id, self._paths[name]))

    @functools.cached_property
    def folders(self) -> set[str]:
        """The paths of all groups that a table is in, at any depth, with "/" at the end."""
        return {folder for name in self.tables for folder in folders_of(name)}

    def spend(self, size: int, chunks: int, where: str) -> None:
        """Count bytes and chunks that are about to be read. Raises FileError if they exceed the budget of the file."""
        self._left -= size
        self._chunks -= chunks
        if self._left < 0 or self._chunks < 0:
            raise FileError(f"{where}: {size} bytes in {chunks} chunks are too many for a file of {self._size} bytes")

    def text(self, where: Any, name: str) -> str | None:
        """Return a string attribute of a group (by path) or dataset, or None. Raises FileError."""
        value = self._attribute(where, name)
        value = value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, bytes):
            return _decoded(self.path, value)
        raise FileError(f"{self.path}: attribute {name!r} is of type {type(value).__name__}; a string is expected")

    def names(self, where: str, name: str) -> list[str] | None:
        """Return an attribute that lists names, which may be split into ``name0``, ``name1``, ..., or None."""
        whole = self._attribute(where, name)
        if whole is not None:
            return [_decoded(self.path, item) for item in np.ravel(whole)]
        found: list[str] = []
        for number in range(_PARTS):
            part = self._attribute(where, f"{name}{number}")
            if part is None:
                return found if number else None
            found += [_decoded(self.path, item) for item in np.ravel(part)]
            if len(found) > OBJECTS:
                break
        raise FileError(f"{self.path}: attribute {name!r} has more than {OBJECTS} names or {_PARTS} parts")

    def _attribute(self, where: Any, name: str) -> Any:
        import h5py

        with damaged(self.path, f"attribute {name!r}"):
            if isinstance(where, str):
                where = h5py.Group(h5py.h5g.open(self._file.id, self._groups[where]))
            if name not in where.attrs:
                return None
            info = where.attrs.get_id(name)
            count, kind = math.prod(info.shape or ()), info.dtype
            text = h5py.check_string_dtype(kind)
            if text is None and kind.kind not in "iufb":
                raise FileError(f"{self.path}: attribute {name!r} has type {kind}; strings or numbers are expected")
            variable = text is not None and text.length is None
            size = self._heaps.text_size(name) if variable else count * kind.itemsize
            if count > OBJECTS or size > self._left:
                raise FileError(f"{self.path}: attribute {name!r} has {count} values, more than the file may contain")
            value = where.attrs[name]
            length = sum(map(len, np.ravel(value))) if variable else count * kind.itemsize
            self.spend(length, 0, f"{self.path}: attribute {name!r}")
            return value


class NoStore(Store):
    """The store of a file without weights."""

    def __init__(self, path: Any):
        self.path, self.tables, self._groups = path, {}, {}

    def _attribute(self, where: Any, name: str) -> Any:
        return None


@contextlib.contextmanager
def opened(path: Any, source: IO[bytes] | bytes, skip: tuple[str, ...] = ()) -> Iterator[Store]:
    """Open an HDF5 file, given as an open file or as its content. Raises FileError; ImportError without h5py."""
    h5py = require("h5py", "reading files of Keras")
    with contextlib.ExitStack() as stack:
        with damaged(path):
            content: Any = source
            if not isinstance(source, bytes):
                content = stack.enter_context(mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ))
            heaps = Heaps(path, content)  # before libhdf5 opens the file
            file: Any = io.BytesIO(source) if isinstance(source, bytes) else os.fspath(path)
            options = {} if isinstance(source, bytes) else {"locking": False}  # a read-only folder allows no locks
            store = Store(path, stack.enter_context(h5py.File(file, "r", **options)), len(content), heaps, skip)
        yield store


def _decoded(path: Any, name: Any) -> str:
    try:
        name = name.decode() if isinstance(name, bytes) else str(name)
        name.encode()
    except UnicodeError:
        raise FileError(f"{path}: it has a name that is not UTF-8: {name!a}") from None
    return name
