"""A model as one file of StableHLO: weights and program, for several platforms, and nothing of jaxconv in it.

Knows models as functions of (params, x), and the files of ``jaxconv.files.archive``.
"""

import dataclasses
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from jaxconv.errors import explain
from jaxconv.files.archive import read_archive, read_header, write_archive
from jaxconv.files.errors import FileError

_FORMAT, _VERSION = "jaxconv exported model", 1
PLATFORMS = ("cpu", "cuda", "tpu")


def export(
    apply_fn: Any,
    params: Any,
    path: str | os.PathLike[str],
    input_shape: Any,
    *,
    dtype: Any = "float32",
    platforms: Sequence[str] = PLATFORMS,
) -> None:
    """Write a model with its weights as StableHLO, to run anywhere without its layers.

    The batch size is symbolic: one program for all. The file is an ``.npz`` that holds a header and, in the array
    ``program``, the bytes of ``jax.export``: ``jax.export.deserialize`` reads them where jaxconv is not installed. JAX
    keeps such programs readable for at least six months after the release that wrote them.

    Args:
        apply_fn: what ``layer.init`` gave, or any function of (params, x).
        params: its weights.
        path: the file, under exactly this name.
        input_shape: batch first; None, for the batch and for other lengths, is symbolic. For several inputs, a list or
            dict of shapes, whose batch is the same one.
        dtype: the type of the input.
        platforms: what to write it for.

    Raises:
        ValueError: a model that cannot be traced with these shapes; an unknown platform.
        FileError: the file cannot be written.
        ImportError: flatbuffers is not installed, which jax.export needs.

    >>> import tempfile
    >>> params, apply_fn = jaxconv.Dense(2).init(jax.random.key(0), (None, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export(apply_fn, params, f"{folder}/dense.jaxexport", (None, 3))
    ...     load_exported(f"{folder}/dense.jaxexport")(np.ones((5, 3), np.float32)).shape
    (5, 2)
    """
    _require_flatbuffers()
    name = getattr(apply_fn, "__name__", type(apply_fn).__name__)
    if not platforms or isinstance(platforms, str) or not set(platforms) <= {*PLATFORMS, "rocm"}:
        raise ValueError(f"platforms={platforms!r} is not legal; give a list of some of: {', '.join(PLATFORMS)}, rocm")
    kind = jnp.dtype(dtype)
    specs = _specs(input_shape, kind, jax_export.SymbolicScope())
    with explain(f"{name}, exported for input of shape {input_shape}"):
        exported = jax_export.export(jax.jit(lambda x: apply_fn(params, x)), platforms=list(platforms))(specs)
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "name": name,
        "input_shape": _plain(specs),
        "dtype": kind.name,
        "platforms": list(exported.platforms),
        "jax": jax.__version__,
    }
    write_archive(path, header, {"program": np.frombuffer(exported.serialize(), np.uint8)})


@dataclasses.dataclass(frozen=True, eq=False)
class Exported:
    """A program from a file: ``y = exported(x)``, for any batch size; compiled for each size when it first comes.

    name: of the model that was exported. input_shape: with None where it is symbolic. dtype: the input's.
    platforms: where it runs. jax_version: what wrote it. outputs: how many arrays come out.
    """

    name: str
    input_shape: Any
    dtype: Any
    platforms: tuple[str, ...]
    jax_version: str
    outputs: int
    _run: Callable = dataclasses.field(repr=False)

    def __call__(self, x: Any) -> Any:
        """Compute the output.

        Raises:
            ValueError: an input of another shape; a machine of a platform that the file is not for.
        """
        x = jax.tree.map(self._as_input, x)
        try:
            return self._run(x)
        except ValueError as error:
            got = jax.tree.map(np.shape, x)
            raise ValueError(
                f"{self.name}: was exported for input of shape {self.input_shape} on {', '.join(self.platforms)}; "
                f"got input of shape {got}: {error}"
            ) from error

    def _as_input(self, one: Any) -> Any:
        return one if getattr(one, "dtype", None) == self.dtype else np.asarray(one, self.dtype)


def is_exported(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file is what :func:`export` wrote, whole or damaged, by its beginning."""
    try:
        read_header(path, _FORMAT, _VERSION)
    except FileError as error:
        return "has version" in str(error)  # of a later jaxconv: load_exported says so
    return True


def load_exported(path: str | os.PathLike[str]) -> Exported:
    """Read what :func:`export` wrote; no layer is needed to run it.

    Raises:
        FileError: the file is missing, truncated, damaged, no such program, or of a newer version.
        ImportError: flatbuffers is not installed, which jax.export needs.

    >>> load_exported("nowhere.jaxexport")
    Traceback (most recent call last):
    jaxconv.files.errors.FileError: nowhere.jaxexport: there is no such file; a jaxconv exported model was expected
    """
    _require_flatbuffers()
    header, arrays = read_archive(path, _FORMAT, _VERSION)
    try:
        exported = jax_export.deserialize(bytearray(arrays["program"].tobytes()))
        dtype = jnp.dtype(header["dtype"])
        shape = _shapes(header["input_shape"])
        record = Exported(
            str(header["name"]),
            shape,
            dtype,
            tuple(exported.platforms),
            str(header["jax"]),
            len(exported.out_avals),
            jax.jit(exported.call),
        )
        told = jax.tree.leaves(shape, is_leaf=lambda one: isinstance(one, tuple))
        if [(len(aval.shape), aval.dtype) for aval in exported.in_avals] != [(len(one), dtype) for one in told]:
            raise ValueError(f"its program takes {exported.in_avals}, its header says {shape}")
    except Exception as error:  # what flatbuffers and JAX raise on damaged bytes is no closed list
        raise FileError(f"{path} holds no program that this JAX {jax.__version__} can read: {error}") from error
    return record


def _require_flatbuffers() -> None:
    if importlib.util.find_spec("flatbuffers") is None:
        raise ImportError("an exported model needs flatbuffers; install it with: pip install 'jaxconv[serving]'")


def _specs(shape: Any, kind: Any, scope: Any) -> Any:
    """Give the inputs as ``jax.ShapeDtypeStruct``: None becomes a symbol, the same one for every batch."""
    if isinstance(shape, Mapping):
        return {key: _specs(one, kind, scope) for key, one in shape.items()}
    if not isinstance(shape, list | tuple) or not shape:
        raise TypeError(f"input_shape: {shape!r} is no shape; give one like (None, 48, 48, 1)")
    if not any(hasattr(one, "__index__") or one is None for one in shape):
        return [_specs(one, kind, scope) for one in shape]
    words = ["batch" if at == 0 else f"n{at}" for at in range(len(shape))]
    text = ", ".join(word if size is None else str(size) for word, size in zip(words, shape, strict=True))
    return jax.ShapeDtypeStruct(jax_export.symbolic_shape(f"({text},)", scope=scope), kind)


def _plain(specs: Any) -> Any:
    """Give shapes as JSON keeps them, None where they are symbolic."""
    return jax.tree.map(lambda one: [size if isinstance(size, int) else None for size in one.shape], specs)


def _shapes(plain: Any) -> Any:
    """Give shapes as tuples from what JSON kept."""
    if isinstance(plain, Mapping):
        return {key: _shapes(one) for key, one in plain.items()}
    whole = all(size is None or isinstance(size, int) for size in plain)
    return tuple(plain) if whole else [_shapes(one) for one in plain]
