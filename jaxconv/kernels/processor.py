"""The processor of this machine, as Linux describes it."""

import contextlib
import functools
import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def model() -> str:
    """Return the name of the model, or of the architecture if the model is unknown."""
    return _described("model name") or platform.processor() or platform.machine()


@functools.cache
def may_have_matrix_units() -> bool:
    """Return False if the processor is known to have no matrix units such as Intel's AMX.

    They multiply 16-bit floats several times as fast. For other architectures and systems the result is True.
    """
    flags = _described("flags").split()  # of x86; an ARM processor has "Features"
    return not flags or any(flag.startswith("amx") for flag in flags)


def _described(field: str) -> str:
    """Return a field of the first core, or an empty text."""
    with contextlib.suppress(OSError):
        for line in CPUINFO.read_text("utf-8", "replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == field:
                return value.strip()
    return ""
