"""HDF5 files, read with suspicion: hard links only, nothing outside the file, sizes checked before bytes are read.

Knows groups, tables of numbers and texts, and nothing of layers.
"""

import contextlib
import functools
import io
import math
import mmap
import os
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np

from jaxconv.files.errors import FileError, damaged
from jaxconv.files.hdf5_heap import check_heaps

OBJECTS = 50_000  # the largest number of groups and tables; the largest of Keras's own models have 5,000
DEPTH = 64  # the deepest nesting of groups
_FILTERS = {1, 2, 3, 32000}  # deflate, shuffle, fletcher32, lzf: HDF5 would look for a plugin to run for any other
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def budget(size: int) -> int:
    """Return how many bytes a file of ``size`` bytes may unpack to: weights hardly compress, a bomb does."""
    return 2**26 + 32 * size


def is_hdf5(handle: Any) -> bool:
    """Return whether an open file begins as HDF5 does, after a user block of up to 4096 bytes or none."""
    for offset in (0, 512, 1024, 2048, 4096):
        handle.seek(offset)
        if handle.read(8) == _SIGNATURE:
            return True
    return False


def folders_of(name: str) -> Iterator[str]:
    """Yield the path of each group that an object is in, from the outermost, with "/" at the end.

    >>> list(folders_of("layers/dense/vars"))
    ['layers/', 'layers/dense/']
    """
    place = name.find("/")
    while place >= 0:
        yield name[: place + 1]
        place = name.find("/", place + 1)


class Table:
    """A table of numbers in the file: its shape is known, its numbers are read on demand."""

    def __init__(self, store: "Store", name: str, dataset: Any):
        self._store, self.name, self._dataset = store, name, dataset
        self.shape = tuple(dataset.shape or ())

    def read(self) -> np.ndarray:
        """Read the numbers: floats (bfloat16 included) or integers.

        Raises:
            FileError: not numbers; more bytes than a file of this size may hold; stored in another file; damaged.
        """
        where = f"{self._store.path}: table {self.name!r}"
        with damaged(self._store.path, f"table {self.name!r}"):
            kind = self._dataset.dtype
            half = kind.kind == "V" and kind.itemsize == 2 and self._store.text(self._dataset, "dtype") == "bfloat16"
            if not half and kind.kind not in "fiu":
                raise FileError(f"{where} has type {kind}; numbers are expected")
            if self._dataset.shape is None:
                raise FileError(f"{where} is empty")
            plan = self._dataset.id.get_create_plist()
            if self._dataset.is_virtual or plan.get_external_count():
                raise FileError(f"{where} stores its numbers in another file, which is not opened")
            filters = {plan.get_filter(index)[0] for index in range(plan.get_nfilters())}
            if not filters <= _FILTERS:
                raise FileError(f"{where} is compressed with the unknown HDF5 filter {sorted(filters - _FILTERS)}")
            self._store.spend(math.prod(self.shape) * kind.itemsize, where)
            value = np.asarray(self._dataset[()])
        return value.view(ml_dtypes.bfloat16) if half else value


class Store:
    """An open HDF5 file: ``tables`` by path, ``groups`` by path, texts in their attributes.

    Objects under ``skip`` (an optimizer's state) are not read. A backslash in a name, from Windows, is read as "/".
    """

    def __init__(self, path: Any, file: Any, size: int, skip: tuple[str, ...] = ()):
        self.path, self._left, self._size = path, budget(size), size
        self.tables: dict[str, Table] = {}
        self.groups: dict[str, Any] = {"": file}
        self._walk(file, skip)

    def _walk(self, file: Any, skip: tuple[str, ...]) -> None:
        import h5py

        seen = {_address(file)}
        open_groups = [("", file)]
        count = 0
        while open_groups:
            prefix, group = open_groups.pop()
            for name in group:
                full = prefix + _decoded(self.path, name)
                if full in skip:
                    continue
                count += 1
                if count > OBJECTS or full.count("/") > DEPTH:
                    raise FileError(f"{self.path}: more than {OBJECTS} groups and tables, or more than {DEPTH} deep")
                link = group.get(name, getlink=True)
                if not isinstance(link, h5py.HardLink):
                    raise FileError(f"{self.path}: {full!r} is a {type(link).__name__}, which is not followed")
                item = group[name]
                clean = full.replace("\\", "/")
                if isinstance(item, h5py.Dataset):
                    self.tables[clean] = Table(self, clean, item)
                elif isinstance(item, h5py.Group):
                    if _address(item) in seen:
                        raise FileError(f"{self.path}: group {full!r} is linked twice; a tree of groups is expected")
                    seen.add(_address(item))
                    self.groups[clean] = item
                    open_groups.append((f"{full}/", item))

    @functools.cached_property
    def folders(self) -> set[str]:
        """The paths of all groups that a table is in, at any depth, with "/" at the end."""
        return {folder for name in self.tables for folder in folders_of(name)}

    def spend(self, size: int, where: str) -> None:
        """Count bytes that are about to be read. Raises FileError if a file of this size may not hold as many."""
        self._left -= size
        if self._left < 0:
            raise FileError(f"{where}: the file unpacks to more bytes than its size of {self._size} allows")

    def text(self, where: Any, name: str) -> str | None:
        """Return a text attribute of a group (by path) or table; None if there is none. Raises FileError."""
        value = self._attribute(where, name)
        value = value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, bytes):
            return _decoded(self.path, value)
        raise FileError(f"{self.path}: attribute {name!r} is of type {type(value).__name__}; a text is expected")

    def names(self, where: str, name: str) -> list[str] | None:
        """Return an attribute that lists names, which may be split into ``name0``, ``name1``, ...; None without it."""
        whole = self._attribute(where, name)
        pieces = [] if whole is None else [whole]
        while whole is None and (piece := self._attribute(where, f"{name}{len(pieces)}")) is not None:
            pieces.append(piece)
        if not pieces:
            return None
        with damaged(self.path, f"attribute {name!r} of {where!r}"):
            return [_decoded(self.path, item) for piece in pieces for item in np.ravel(piece)]

    def _attribute(self, where: Any, name: str) -> Any:
        item = self.groups[where] if isinstance(where, str) else where
        with damaged(self.path, f"attribute {name!r}"):
            if name not in item.attrs:
                return None
            info = item.attrs.get_id(name)
            if math.prod(info.shape or ()) * info.dtype.itemsize > self._size:
                raise FileError(f"{self.path}: the declared size of attribute {name!r} is larger than the file")
            return item.attrs[name]


@contextlib.contextmanager
def opened(path: str | os.PathLike[str], content: bytes | None = None, skip: tuple[str, ...] = ()) -> Iterator[Store]:
    """Open an HDF5 file on disk, or one in memory whose bytes are ``content``, and close it at the end.

    Raises:
        FileError: it is damaged; it has links out of the file or in cycles; too many groups; names not in UTF-8.
        ImportError: h5py is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise ImportError("Keras's files need h5py; install it with: pip install 'jaxconv[files]'") from None
    with contextlib.ExitStack() as stack:
        with damaged(path):
            size = os.path.getsize(path) if content is None else len(content)
            _check_heaps(path, content)
            source: Any = io.BytesIO(content) if content is not None else os.fspath(path)
            options = {} if content is not None else {"locking": False}  # a read-only folder allows no locks
            store = Store(path, stack.enter_context(h5py.File(source, "r", **options)), size, skip)
        yield store


def _check_heaps(path: Any, content: bytes | None) -> None:
    if content is not None:
        check_heaps(path, content)
        return
    with open(path, "rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        check_heaps(path, mapped)


def _address(group: Any) -> Any:
    import h5py

    return h5py.h5o.get_info(group.id).addr


def _decoded(path: Any, name: Any) -> str:
    try:
        name = name.decode() if isinstance(name, bytes) else str(name)
        name.encode()
    except UnicodeError:
        raise FileError(f"{path}: it has a name that is not UTF-8: {name!a}") from None
    return name
