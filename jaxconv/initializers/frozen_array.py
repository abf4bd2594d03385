"""Immutable arrays: comparable, hashable, picklable, and equal after a round trip through JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class FrozenArray:
    """An immutable array, the type of fields that contain arrays.

    Numbers are stored in the widest type of their kind, so that a round trip through JSON gives an equal value.
    """

    shape: tuple[int, ...]
    dtype: str
    data: bytes

    @classmethod
    def of(cls, value: Any, where: str) -> "FrozenArray":
        """Freeze an array, nested lists of numbers, or the config that Keras writes for an array."""
        if isinstance(value, cls):
            return value
        if isinstance(value, Mapping) and value.get("class_name") in ("__numpy__", "__tensor__"):
            value = value["config"]["value"]
        array = np.asarray(value)
        dtype = next((kind for kind in (bool, np.int64, np.float64) if np.can_cast(array.dtype, kind)), None)
        if dtype is None:
            raise TypeError(f"{where} must be a real number or an array of them; got {value!r}")
        array = np.ascontiguousarray(array.astype(dtype)).reshape(array.shape)
        return cls(array.shape, array.dtype.name, array.tobytes())

    def numpy(self) -> np.ndarray:
        """Return the array as a read-only numpy array."""
        return np.frombuffer(self.data, self.dtype).reshape(self.shape)

    def tolist(self) -> Any:
        """Return nested lists of numbers, for a config."""
        return self.numpy().tolist()

    def __repr__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"
