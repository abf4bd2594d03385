"""Export of a model or a stream to one StableHLO file with its weights, for several platforms, without jaxconv."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export
from jax.errors import InconclusiveDimensionOperation
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import sdy, stablehlo

from jaxconv.errors import explain, require
from jaxconv.files.archive import read_archive, read_format, write_archive
from jaxconv.files.errors import FileError, refused
from jaxconv.serving.exported_stream import ExportedStream, FromFile, Program, read_stream, stream_program
from jaxconv.serving.inputs import (
    cast_inputs,
    is_shape,
    map_shapes,
    read_function,
    read_input_shape,
    read_shapes,
    resolve_dtypes,
    symbolic_inputs,
)

_FORMAT, _VERSION = "jaxconv exported model", 3  # version 1 had one dtype for all inputs, version 2 no streams
PLATFORMS = ("cpu", "cuda", "tpu")
# JAX's own check of symbolic shapes and its pooling of symbolic lengths, removed before the program runs
_CUSTOM_CALLS = {"shape_assertion", "stablehlo.dynamic_reduce_window"}
_DIALECTS = {"builtin", "func", "stablehlo", "chlo", "sdy"}
_TRANSFERS = {f"stablehlo.{name}" for name in ("infeed", "outfeed", "send", "recv")}


def export(
    apply_fn: Any,
    params: Any,
    path: str | os.PathLike[str],
    input_shape: Any = None,
    *,
    chunk: int | None = None,
    dtype: Any = None,
    platforms: Sequence[str] = PLATFORMS,
) -> None:
    """Write a model or a stream with its weights as StableHLO, to run anywhere without its layers.

    The batch size is symbolic: one program accepts all sizes. The file is an ``.npz`` with a header and, in the array
    ``program``, the bytes of ``jax.export``, which ``jax.export.deserialize`` reads where jaxconv is not installed. JAX
    keeps such programs readable for at least six months after the release that wrote them. The program of a stream is
    its step, a function of (state, x, mask, reset, active); the arrays ``state/0``, ... are the leaves of the state of
    one row before the first step.

    Args:
        apply_fn: the second value of ``layer.init``, a layer, any function of (params, x), or a stream.
        params: its weights.
        path: the file, under exactly this name.
        input_shape: batch first; None, for the batch and for other lengths, is symbolic: any length that the model
            accepts. For several inputs, a list or dict of shapes, which share the batch, and the lengths along an axis
            where the model combines them. Not for a stream, which knows it.
        chunk: for a stream, the number of steps in one call, a multiple of the block; by default the block.
        dtype: the type of the input. For several inputs, a list or dict of types, or one float type for those that are
            not declared as integers. By default the types that the inputs of a ``Model`` declare, float32 otherwise.
        platforms: the platforms to write it for.

    Raises:
        ValueError: the model cannot be traced with these shapes, or runs code outside StableHLO (callbacks, linear
            algebra of LAPACK); a platform is unknown; the types or the chunk do not fit.
        TypeError: the arguments are in the wrong order.
        FileError: the file cannot be written.
        ImportError: flatbuffers is not installed, which jax.export needs.

    >>> import tempfile
    >>> params, apply_fn = jaxconv.Dense(2).init(jax.random.key(0), (None, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export(apply_fn, params, f"{folder}/dense.jaxexport", (None, 3))
    ...     load_exported(f"{folder}/dense.jaxexport")(np.ones((5, 3), np.float32)).shape
    (5, 2)
    """
    require("flatbuffers", "an exported model")
    if not isinstance(path, str | os.PathLike):
        raise TypeError(
            f"export(apply_fn, params, path, input_shape): path is of type {type(path).__name__}; give the name of a "
            "file, in this order"
        )
    if not platforms or isinstance(platforms, str) or not set(platforms) <= {*PLATFORMS, "rocm"}:
        names = f"{', '.join(PLATFORMS)}, rocm (GPUs are cuda, those of AMD rocm)"
        raise ValueError(f"platforms={platforms!r} is not valid; give a list of some of: {names}")
    streams = hasattr(apply_fn, "step")
    if not streams:
        apply_fn = read_function(apply_fn, params, "export(apply_fn, params, path, input_shape)")
    if streams and input_shape is not None:
        raise ValueError(f"export: a stream knows its input {apply_fn.input_shape}; leave out {input_shape=}")
    if not streams and chunk is not None:
        raise ValueError(f"export: {chunk=} is for a stream; give jaxconv.stream(layer) in place of apply_fn")
    make = stream_program(apply_fn, params, chunk, dtype) if streams else _program(apply_fn, params, input_shape, dtype)
    with explain(f"{make.name}, exported for input of shape {make.header['input_shape']}"):
        try:
            exported = jax_export.export(jax.jit(make.function), platforms=list(platforms))(*make.specs)
        except InconclusiveDimensionOperation as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(f"not valid for every length that is None: {reason} Give numbers for some") from error
    with explain(make.name):
        _check_operations(exported)
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "name": make.name,
        **make.header,
        "platforms": list(exported.platforms),
        "jax": jax.__version__,
    }
    write_archive(path, header, make.arrays | {"program": np.frombuffer(exported.serialize(), np.uint8)})


def _program(apply_fn: Any, params: Any, input_shape: Any, dtype: Any) -> Program:
    """Return the program of a model."""
    shapes = read_input_shape(apply_fn, input_shape)
    dtypes = resolve_dtypes(apply_fn, shapes, dtype)
    header = {"input_shape": shapes, "dtype": jax.tree.map(lambda kind: kind.name, dtypes)}
    name = getattr(apply_fn, "__name__", type(apply_fn).__name__)

    def function(x: Any) -> Any:
        return apply_fn(params, x)

    specs = symbolic_inputs(apply_fn, shapes, dtypes, shared=False)
    if not is_shape(shapes):
        try:
            jax.eval_shape(function, specs)
        except Exception:  # a model whose inputs must have equal lengths may raise anything
            specs = symbolic_inputs(apply_fn, shapes, dtypes, shared=True)
    return Program(name, function, (specs,), header, {})


def _check_operations(exported: jax_export.Exported) -> None:
    """Check that a program contains only StableHLO: a custom call runs any code of that name. Raises ValueError."""
    refused: set[str] = set()

    def visit(operation: Any) -> Any:
        name = operation.name
        if name == "stablehlo.custom_call":
            target = ir.StringAttr(operation.attributes["call_target_name"]).value
            if target not in _CUSTOM_CALLS:
                refused.add(f"custom call {target!r}")
        elif name in _TRANSFERS or name.partition(".")[0] not in _DIALECTS:
            refused.add(name)
        return ir.WalkResult.ADVANCE

    with ir.Context() as context:
        stablehlo.register_dialect(context)
        sdy.register_dialect(context)
        module = stablehlo.deserialize_portable_artifact(context, exported.mlir_module_serialized)
        module.operation.walk(visit)
    if refused or exported.nr_devices != 1:
        what = ", ".join(sorted(refused)) or f"a program for {exported.nr_devices} devices"
        raise ValueError(f"{what} is not allowed in an exported model; expected operations of StableHLO on one device")


@dataclasses.dataclass(frozen=True, eq=False)
class Exported(FromFile):
    """A program from a file: ``y = exported(x)``, for any batch size; each size is compiled when it first occurs.

    outputs: the number of output arrays.
    """

    outputs: int

    def __call__(self, x: Any) -> Any:
        """Compute the output. Raises ValueError for an input of another shape, or on another platform."""
        try:
            return self._run(cast_inputs(self.name, self.input_shape, self.dtype, x))
        except ValueError as error:
            too_short = "it is too short for the model" if str(error).startswith("Error refining shapes") else error
            raise ValueError(
                f"{self.name}: was exported for input of shape {self.input_shape} on {', '.join(self.platforms)}; "
                f"got input of shape {jax.tree.map(np.shape, x)}: {too_short}"
            ) from error


def is_exported(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is one that :func:`export` wrote."""
    return read_format(path) == _FORMAT


def load_exported(path: str | os.PathLike[str]) -> Any:
    """Read a file that :func:`export` wrote; no layer is needed to run it.

    Args:
        path: the file.

    Returns:
        For a model, a function ``y = exported(x)``. For a stream, an object with ``init(batch_size)`` and
        ``step(state, x, mask=None, reset=None, active=None)``, like those of the stream but without params.

    Raises:
        FileError: the file is missing, truncated, damaged, not such a program, or of a newer version; its program runs
            code outside StableHLO.
        ImportError: flatbuffers is not installed, which jax.export needs.

    >>> import tempfile
    >>> params, apply_fn = jaxconv.Dense(2).init(jax.random.key(0), (None, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jaxconv.export(apply_fn, params, f"{folder}/dense.jaxexport", (None, 3))
    ...     exported = load_exported(f"{folder}/dense.jaxexport")
    >>> exported.input_shape, exported(np.ones((5, 3), np.float32)).shape
    ((None, 3), (5, 2))
    >>> load_exported("nowhere.jaxexport")
    Traceback (most recent call last):
    jaxconv.files.errors.FileError: nowhere.jaxexport: No such file or directory
    """
    require("flatbuffers", "an exported model")
    header, arrays = read_archive(path, _FORMAT, _VERSION)
    try:
        exported = jax_export.deserialize(bytearray(arrays["program"].tobytes()))
        _check_operations(exported)
    except Exception as error:  # flatbuffers and JAX may raise anything on damaged bytes
        raise FileError(f"{path} contains no program that this JAX {jax.__version__} can read: {error}") from error
    with refused(path, "its header"):
        arguments, _ = jax.tree.unflatten(exported.in_tree, exported.in_avals)
        shapes, dtypes = _read_inputs(header, arguments[1 if "stream" in header else 0])
        name, version = header["name"], header["jax"]
        if not isinstance(name, str) or not isinstance(version, str):
            raise ValueError("the names of the model and of the version of JAX are not strings")
        facts = (name, shapes, dtypes, tuple(exported.platforms), version, jax.jit(exported.call))
        if "stream" in header:
            return ExportedStream(*facts, **read_stream(exported, header, arrays))
        return Exported(*facts, len(exported.out_avals))


def _read_inputs(header: Mapping[str, Any], taken: Any) -> tuple[Any, Any]:
    """Return the shapes and types of the inputs in a header. Raises ValueError if the program takes others."""
    shapes, dtype = read_shapes(header["input_shape"]), header["dtype"]
    several = not isinstance(dtype, str)
    dtypes = resolve_dtypes(None, shapes, dtype) if several else map_shapes(lambda _: jnp.dtype(dtype), shapes)
    declared = map_shapes(lambda shape, kind: (shape, kind), shapes, dtypes)
    sizes = jax.tree.map(lambda aval: tuple(n if isinstance(n, int) else None for n in aval.shape), taken)
    if declared != jax.tree.map(lambda aval, shape: (shape, aval.dtype), taken, sizes):
        raise ValueError(f"its program takes {taken}, its header says {shapes} of {dtype}")
    return shapes, dtypes
