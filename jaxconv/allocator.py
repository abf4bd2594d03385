"""Settings of the process's memory allocator that keep freed memory for the next array."""

import contextlib
import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # M_TRIM_THRESHOLD and so on, of malloc.h
_LARGEST_ARRAY, _KEPT, _AHEAD = 1 << 30, (1 << 31) - 1, 1 << 28  # bytes
_LARGEST_OLD = 1 << 25  # the most that older versions accept instead of the first
_state: list[bool] = []  # whether the call took effect; empty before the first call


def keep_freed_memory() -> bool:
    """Keep memory that is freed in this process, instead of returning it to the operating system.

    On CPU, XLA allocates the temporaries of a program on every call. The allocator of Linux (glibc) requests large
    arrays from the operating system each time, and returns freed memory at the end of its heap; the system then clears
    each page when it is first used. This function raises both thresholds, to 1 and 2 GiB. Arrays that the main thread
    allocates, such as NumPy's and PyTorch's, are then kept. Other threads keep arrays of up to 64 MB; XLA still takes
    larger temporaries from the system. (One heap for all threads, ``MALLOC_ARENA_MAX=1``, would keep them, but then
    threads wait for each other: a training step of MobileNet took 29 instead of 24 ms.)

    The disadvantage is that the process keeps its largest size. The command ``jaxconv`` calls this function for its own
    process.

    Call it once, at the start of the program. On systems other than Linux with glibc it does nothing; a second call has
    no further effect.

    Returns:
        True if it took effect, in this call or an earlier one.

    Source: https://man7.org/linux/man-pages/man3/mallopt.3.html

    >>> jaxconv.keep_freed_memory() in (True, False)
    True
    """
    if not _state:
        _state.append(sys.platform.startswith("linux") and _raise_thresholds())
    return _state[0]


def _raise_thresholds() -> bool:
    """Set the parameters by glibc's ``mallopt``, which returns 1 for success."""
    with contextlib.suppress(OSError, AttributeError):  # no such library or function: another C library
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - musl has no mallopt, or one that does nothing
        mallopt = library.mallopt
        at_once = any(mallopt(_MMAP_THRESHOLD, size) == 1 for size in (_LARGEST_ARRAY, _LARGEST_OLD))
        rest = [(_TRIM_THRESHOLD, _KEPT), (_TOP_PAD, _AHEAD)]
        return at_once and all([mallopt(name, value) == 1 for name, value in rest])
    return False
