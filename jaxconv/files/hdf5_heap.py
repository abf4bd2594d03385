"""The global heaps of an HDF5 file, which hold its texts: checked before libhdf5, which can loop on damaged ones.

Knows bytes alone: the layout of a heap collection (HDF5 file format, section III.E), and of the references to it.
"""

from typing import Any

from jaxconv.files.bounds import budget
from jaxconv.files.errors import FileError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
OFFSETS = (0, 512, 1024, 2048, 4096)  # of the signature, after a user block or without one
_COLLECTION = b"GCOL\x01\x00\x00\x00"  # signature, version 1, reserved
_HEADER = 16  # the size of the header of the collection, and of each object in it
_LARGE = 1024
_MOST_LARGE = 16  # objects that are counted in search of texts that are referred to again and again


class Heaps:
    """The heaps of a file: in each one, every object leads on to the next.

    Args:
        path: for messages.
        content: the file's bytes, or a memory map of them.

    Raises:
        FileError: an object without size, or one that ends outside its heap; heaps that may hide references.
    """

    def __init__(self, path: Any, content: Any):
        self._path, self._content = path, content
        base = next((place for place in OFFSETS if content[place : place + 8] == SIGNATURE), None)
        if base is None:
            raise FileError(f"{path}: it is not HDF5: it has no signature")
        if content[base + (13 if content[base + 8] < 2 else 9)] != 8:
            raise FileError(f"{path}: its offsets are not of 8 bytes")
        self._large: list[tuple[int, bytes]] = []  # size, and the reference to the object
        start = content.find(_COLLECTION)
        while start >= 0:
            end = self._check(start, start - base)
            start = content.find(_COLLECTION, max(end, start + 1))
        start = content.find(b"FRHP\x00")  # heaps of attributes; one with filters is compressed
        while start >= 0:
            if content[start + 7 : start + 9] != bytes(2):
                raise FileError(f"{path}: the heap at byte {start} is compressed, which no writer of models does")
            start = content.find(b"FRHP\x00", start + 1)

    def _check(self, start: int, address: int) -> int:
        content, place = self._content, start + _HEADER
        end = start + int.from_bytes(content[start + 8 : place], "little")
        if end > len(content):
            raise FileError(f"{self._path}: it is truncated or damaged: the heap at byte {start} ends after the file")
        while place + _HEADER <= end:
            index = int.from_bytes(content[place : place + 2], "little")
            size = int.from_bytes(content[place + 8 : place + _HEADER], "little")
            step = size if index == 0 else _HEADER + -(-size // 8) * 8  # object 0 is the free space, header included
            if step < _HEADER or place + step > end:
                raise FileError(f"{self._path}: it is truncated or damaged: wrong sizes in the heap at byte {start}")
            if index and size > _LARGE:
                self._large.append((size, address.to_bytes(8, "little") + index.to_bytes(4, "little")))
            place += step
        return end

    def allow(self, count: int) -> bool:
        """Return whether a list of so many texts fits the file's budget, although several may be the same object."""
        limit = budget(len(self._content)) // 2
        large = [(size, reference) for size, reference in self._large if size * count > limit]
        if count * _LARGE > limit or len(large) > _MOST_LARGE:
            return False
        return sum(size * self._occurrences(reference) for size, reference in large) <= limit

    def _occurrences(self, reference: bytes) -> int:
        count, place = 0, self._content.find(reference)
        while place >= 0:
            count, place = count + 1, self._content.find(reference, place + 1)
        return count
