"""The state of a loader as plain values, for the header of a checkpoint."""

import importlib
from typing import Any

import numpy as np


def as_plain(state: Any) -> Any:
    """Convert the bytes and tensors of a state to plain values. Raises TypeError for a value without a plain form.

    >>> as_plain({"step": 2, "random": b"\\x01"})
    {'step': 2, 'random': {'bytes': '01'}}
    """
    if isinstance(state, dict):
        return {str(key): as_plain(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [as_plain(value) for value in state]
    if isinstance(state, bytes):
        return {"bytes": state.hex()}
    if hasattr(state, "detach") and hasattr(state, "numpy"):  # a tensor of PyTorch
        array = state.detach().cpu().numpy()
        return {"tensor": array.tobytes().hex(), "dtype": str(array.dtype), "shape": list(array.shape)}
    if state is None or isinstance(state, bool | int | float | str):
        return state
    raise TypeError(
        f"the state of the loader contains a {type(state).__name__}; expected numbers, text, bytes or tensors"
    )


def from_plain(plain: Any) -> Any:
    """Convert the result of :func:`as_plain` back to the state.

    >>> from_plain({"step": 2, "random": {"bytes": "01"}})
    {'step': 2, 'random': b'\\x01'}
    """
    if isinstance(plain, list):
        return [from_plain(value) for value in plain]
    if not isinstance(plain, dict):
        return plain
    if set(plain) == {"bytes"}:
        return bytes.fromhex(plain["bytes"])
    if set(plain) == {"tensor", "dtype", "shape"}:
        array = np.frombuffer(bytes.fromhex(plain["tensor"]), plain["dtype"]).reshape(plain["shape"])
        return importlib.import_module("torch").from_numpy(array.copy())
    return {key: from_plain(value) for key, value in plain.items()}
