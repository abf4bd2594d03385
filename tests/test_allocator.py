"""Freed memory stays in the process: page faults are counted in a process of its own."""

import os
import subprocess
import sys

import pytest

from jaxconv import allocator

ROUNDS = """
import ctypes, resource, runpy, sys
keep = runpy.run_path(sys.argv[2])["keep_freed_memory"]  # the file alone: the package takes seconds to import
if sys.argv[1] == "keep":
    assert keep() and keep()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
counts = []
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    pointer = libc.malloc(64 << 20)
    ctypes.memset(pointer, 1, 64 << 20)
    libc.free(pointer)
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(*counts)
"""


def test_kept_memory_has_no_page_faults():
    if not (sys.platform.startswith("linux") and "CS_GNU_LIBC_VERSION" in os.confstr_names):
        pytest.skip("glibc only")
    first, *later = _page_faults("keep")
    assert first > 50 and max(later) < 20
    assert min(_page_faults("leave")) > 50


def _page_faults(word):
    command = [sys.executable, "-c", ROUNDS, word, allocator.__file__]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return [int(count) for count in run.stdout.split()]


def test_elsewhere_it_does_nothing(monkeypatch):
    monkeypatch.setattr(allocator, "_state", [])
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda *_: pytest.fail("it was called"))
    assert allocator.keep_freed_memory() is False
