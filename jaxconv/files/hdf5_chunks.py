"""Check of the unpacked size of an HDF5 dataset's chunks, before libhdf5 unpacks them without a limit."""

import itertools
import math
import zlib
from typing import Any

from jaxconv.files.errors import FileError

_DEFLATE, _FLETCHER, _LZF = 1, 3, 32000
_FILTERS = {_DEFLATE, 2, _FLETCHER, _LZF}  # 2 shuffles bytes; HDF5 would look for a plugin to run for any other
_PACKING = {_DEFLATE, _LZF}
_CHECKSUM = 4  # bytes that fletcher32 adds


def check_chunks(where: str, dataset: Any) -> None:
    """Check that every chunk of a dataset unpacks to its declared size: libhdf5 reads beyond the end of a shorter one.

    Raises FileError, whose message begins with ``where``, also for an unknown filter and for two compressions.
    """
    plan = dataset.id.get_create_plist()
    filters = [plan.get_filter(index)[0] for index in range(plan.get_nfilters())]
    if not set(filters) <= _FILTERS:
        raise FileError(f"{where} is compressed with the unknown HDF5 filter {sorted(set(filters) - _FILTERS)}")
    if len(set(filters)) < len(filters) or set(filters) >= _PACKING:
        raise FileError(f"{where} is compressed more than once, with the HDF5 filters {filters}")
    if dataset.chunks is None:
        return
    declared = math.prod(dataset.chunks) * dataset.dtype.itemsize
    for offset in itertools.product(*map(range, itertools.repeat(0), dataset.shape, dataset.chunks)):
        info = dataset.id.get_chunk_info_by_coord(offset)
        if info.byte_offset is None:
            continue  # not stored: filled with a constant
        applied = [code for index, code in enumerate(filters) if not info.filter_mask >> index & 1]
        size = info.size - (_CHECKSUM if applied[-1:] == [_FLETCHER] else 0)
        for code in _PACKING.intersection(applied):
            if size > 2 * declared + 64:
                break  # not even stored in that size
            content = dataset.id.read_direct_chunk(offset)[1][:size]
            checked_first = _FLETCHER in applied[: applied.index(code)]
            size = _unpacked_size(content, code, declared + _CHECKSUM) - (_CHECKSUM if checked_first else 0)
        if size != declared:
            raise FileError(f"{where}: its chunk at {offset} does not unpack to the declared {declared} bytes")


def _unpacked_size(content: bytes, code: int, largest: int) -> int:
    """Return the unpacked size of a filter's content; counting stops above ``largest``."""
    if code == _DEFLATE:
        return len(zlib.decompressobj().decompress(content, largest + 1))
    position = size = 0  # LZF: runs of literal bytes, and references, whose length has three bits or a byte more
    while position < len(content) and size <= largest:
        control = content[position]
        if control < 32:
            position, size = position + control + 2, size + control + 1
        else:
            long = control >> 5 == 7
            size += (control >> 5) + 2 + (content[position + 1] if long else 0)
            position += 2 + long
    return size
