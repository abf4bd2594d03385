"""Check of the global heaps of an HDF5 file, which contain its strings: libhdf5 can loop on damaged ones.

Reads bytes in the layout of a heap collection (HDF5 file format, section III.E) and of an attribute (IV.A.2.m).
"""

import itertools
import math
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxconv.files.errors import FileError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
OFFSETS = (0, 512, 1024, 2048, 4096)  # of the signature, after a user block or without one
_COLLECTION = b"GCOL\x01\x00\x00\x00"  # signature, version 1, reserved
_HEADER = 16  # the size of the header of the collection, and of each object in it
_MAX_OCCURRENCES = 20_000  # of the name of an attribute that are examined
_VARIABLE = 9  # the class of types of variable length
_REFERENCE = np.dtype([("length", "<u4"), ("object", "V12")])  # to a text in a heap


class Heaps:
    """The heaps of a file, given as bytes or a memory map, checked: in each one, every object leads to the next.

    Raises FileError for an object without size, or one that ends outside its heap, and for heaps that may hide
    attributes.
    """

    def __init__(self, path: Any, content: Any):
        self._path, self._content = path, content
        self._text_sizes: dict[str, float] = {}
        base = next((place for place in OFFSETS if content[place : place + 8] == SIGNATURE), None)
        if base is None:
            raise FileError(f"{path}: it is not HDF5: it has no signature")
        if content[base + (13 if content[base + 8] < 2 else 9)] != 8:
            raise FileError(f"{path}: its offsets are not of 8 bytes")
        start = content.find(_COLLECTION)
        while start >= 0:
            end = self._check(start)
            start = content.find(_COLLECTION, max(end, start + 1))
        start = content.find(b"FRHP\x00")  # heaps of attributes; one with filters is compressed
        while start >= 0:
            if content[start + 7 : start + 9] != bytes(2):
                raise FileError(f"{path}: the heap at byte {start} is compressed, which no writer of models does")
            start = content.find(b"FRHP\x00", start + 1)

    def _check(self, start: int) -> int:
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
            place += step
        return end

    def text_size(self, name: str) -> float:
        """Return the largest number of bytes that a string attribute with this name declares, on any object.

        libhdf5 allocates the declared size, and several strings may be the same object of a heap. Infinity if no such
        attribute is found.
        """
        if name not in self._text_sizes:
            found = itertools.islice(self._places(name.encode() + b"\0"), _MAX_OCCURRENCES)
            self._text_sizes[name] = max((self._declared(*place) for place in found), default=math.inf)
        return self._text_sizes[name]

    def _places(self, name: bytes) -> Iterator[tuple[int, int]]:
        """Yield the position and version of each attribute message with this name, and of bytes that may be one."""
        place = self._content.find(name)
        while place >= 0:
            for version, header in ((1, 8), (2, 8), (3, 9)):
                if place >= header and self._content[place - header] == version:
                    yield place - header, version
            place = self._content.find(name, place + 1)

    def _declared(self, start: int, version: int) -> float:
        """Return the number of bytes that the strings of an attribute message declare, or 0 if it has no strings."""
        content, ends = self._content, [start + (9 if version == 3 else 8)]
        for size in struct.unpack("<3H", content[start + 2 : start + 8]):  # of the name, the type, the shape
            ends.append(ends[-1] + (-(-size // 8) * 8 if version == 1 else size))
        _, kind, shape, values = ends
        if values > len(content) or not (content[start + 1] & 1 or content[kind] & 15 == _VARIABLE):
            return 0
        sizes = shape + (8 if content[shape] == 1 else 4)
        count = math.prod(np.frombuffer(content[sizes : sizes + 8 * content[shape + 1]], "<u8").tolist())
        if values + count * _REFERENCE.itemsize > len(content):
            return 0
        references = np.frombuffer(content[values : values + count * _REFERENCE.itemsize], _REFERENCE)
        return int(references["length"].sum(dtype=np.uint64))
