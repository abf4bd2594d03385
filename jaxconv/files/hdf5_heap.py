"""The global heaps of an HDF5 file, which hold its texts: checked before libhdf5, which can loop on damaged ones.

Knows bytes alone: the layout of a heap collection (HDF5 file format, section III.E).
"""

from typing import Any

from jaxconv.files.errors import FileError

_START = b"GCOL\x01\x00\x00\x00"  # signature, version 1, reserved
_HEADER = 16  # the size of the header of the collection, and of each object in it


def check_heaps(path: Any, content: Any) -> None:
    """Check that in each heap every object leads on to the next one.

    Args:
        path: for the message.
        content: the file's bytes, or a memory map of them.

    Raises:
        FileError: an object without size, or one that ends outside its heap.
    """
    start = content.find(_START)
    while start >= 0:
        end = start + int.from_bytes(content[start + 8 : start + _HEADER], "little")
        place = start + _HEADER
        if end > len(content):
            raise FileError(f"{path}: it is truncated or damaged: the heap at byte {start} ends after the file")
        while place + _HEADER <= end:
            index = int.from_bytes(content[place : place + 2], "little")
            size = int.from_bytes(content[place + 8 : place + _HEADER], "little")
            step = size if index == 0 else _HEADER + -(-size // 8) * 8  # object 0 is the free space, header included
            if step < _HEADER or place + step > end:
                raise FileError(f"{path}: it is truncated or damaged: the heap at byte {start} has a wrong object size")
            place += step
        start = content.find(_START, max(end, start + 1))
