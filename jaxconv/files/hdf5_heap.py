"""The global heaps of an HDF5 file, where its texts lie: checked before libhdf5, which can loop on them for ever.

Knows bytes alone: the layout of a heap collection (HDF5 file format, section III.E).
"""

from typing import Any

from jaxconv.files.errors import FileError

_START = b"GCOL\x01\x00\x00\x00"  # signature, version 1, reserved
_HEADER = 16  # of the collection, and of each object in it


def check_heaps(path: Any, content: Any) -> None:
    """Check that each object in each heap leads on to the next one.

    Args:
        path: for the message.
        content: the file's bytes, or a memory map of them.

    Raises:
        FileError: an object without size, or one that reaches out of its heap.
    """
    place = content.find(_START)
    while place >= 0:
        end = place + int.from_bytes(content[place + 8 : place + _HEADER], "little")
        here = place + _HEADER
        if end > len(content):
            raise FileError(f"{path}: it is truncated or damaged: the heap at byte {place} reaches beyond the file")
        while here + _HEADER <= end:
            index = int.from_bytes(content[here : here + 2], "little")
            size = int.from_bytes(content[here + 8 : here + _HEADER], "little")
            step = size if index == 0 else _HEADER + -(-size // 8) * 8  # 0 is the space that is free, header included
            if step < _HEADER or here + step > end:
                raise FileError(f"{path}: it is truncated or damaged: the heap at byte {place} does not add up")
            here += step
        place = content.find(_START, max(end, place + 1))
