"""Checks of the numbers in a ``[data]`` table; errors name the key."""

import math
import os


def machine_memory() -> float:
    """Return the memory of this machine in bytes, or infinity if it is unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return math.inf


MOST = 10**9  # of samples, steps, voxels: beyond it numpy fails without naming the key
MOST_SEED = 2**63 - 1  # the largest integer of TOML


def between(low: float, high: float, **keys: float) -> None:
    """Raise ValueError for the first of ``keys`` that is not from ``low`` to ``high``, ends included.

    >>> between(0.01, 0.9, test_size=2.0)
    Traceback (most recent call last):
    ValueError: data.test_size: 2.0 is out of range; give a number from 0.01 to 0.9
    """
    for key, value in keys.items():
        if not low <= value <= high:  # also catches nan
            raise ValueError(f"data.{key}: {value} is out of range; give a number from {low} to {high}")


def check_memory(values: int, **keys: int) -> None:
    """Raise ValueError if this machine lacks the memory for this many float32 values, which follows from ``keys``.

    >>> check_memory(10**18, train=10**9, length=10**9)
    Traceback (most recent call last):
    ValueError: data: train=1000000000, length=1000000000 need 4,000,000,000 GB; this machine has ... GB
    """
    if 4 * values > machine_memory():
        named = ", ".join(f"{key}={value}" for key, value in keys.items())
        gigabytes = f"{4 * values / 1e9:,.0f} GB; this machine has {machine_memory() / 1e9:,.0f} GB"
        raise ValueError(f"data: {named} need {gigabytes}")
