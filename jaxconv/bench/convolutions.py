"""One convolution in jax.lax, PyTorch and jaxconv: time, compile time, memory, errors."""

import importlib
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv.bench.agreement import difference, disagreeing
from jaxconv.bench.cases import Arrays, Case, arrays
from jaxconv.bench.timing import Program, medians
from jaxconv.kernels.general import conv_general_dilated

FORWARD, GRADIENTS = "forward", "forward + gradients"
MODES = (FORWARD, GRADIENTS)
CONVOLVE = {"lax": lax.conv_general_dilated, "jaxconv": conv_general_dilated}
LIBRARIES = ("lax", "torch", "jaxconv")
TOLERANCES = {"float32": 1e-4, "bfloat16": 4e-2}  # relative to the largest entry: the order of summation differs


def measure_case(case: Case, libraries: Sequence[str], seconds: float, accuracy: bool = False) -> dict[str, Any]:
    """Measure one case in several libraries and return a row of the results.

    The row has ``milliseconds`` of each library by mode; for libraries that compile, ``compile`` seconds of both
    programs, ``memory``, the temporary bytes of the gradient program divided by those of its inputs and outputs, and
    with ``accuracy`` the largest ``error`` against float64, relative to the largest entry; and the ``wrong`` libraries.
    """
    operands = arrays(case)
    forward: dict[str, Program] = {}
    gradients: dict[str, Program] = {}
    row: dict[str, Any] = {"name": case.name, "family": case.family, "compile": {}, "memory": {}}
    values: dict[str, list[np.ndarray]] = {}
    for name in libraries:
        if name == "torch":
            run, both = importlib.import_module("jaxconv.bench.peers.torch").convolution_programs(case, operands)
            forward[name], gradients[name] = Program(run), Program(both)
            values[name] = [np.moveaxis(run().float().numpy(), 1, -1)]
            continue
        run, both, row["compile"][name], row["memory"][name] = _compile(CONVOLVE[name], case, operands)
        forward[name], gradients[name] = Program(run), Program(both)
        values[name] = [np.asarray(value, "f4") for value in both()]
    row["wrong"] = disagreeing(values, TOLERANCES.get(case.dtype, 4e-2))
    if accuracy:
        exact = _float64_results(case, operands)
        row["error"] = {name: difference(got, exact) for name, got in values.items() if name != "torch"}
    row["milliseconds"] = {FORWARD: medians(forward, seconds), GRADIENTS: medians(gradients, seconds)}
    return row


def _functions(convolve: Callable, operands: Arrays) -> tuple[Callable, Callable]:
    def forward(x: jax.Array, w: jax.Array) -> jax.Array:
        return convolve(x, w, **operands.options)

    def gradients(x: jax.Array, w: jax.Array, dy: jax.Array) -> tuple[jax.Array, ...]:
        y, vjp = jax.vjp(forward, x, w)
        return (y, *vjp(dy.astype(y.dtype)))

    return forward, gradients


def _compile(convolve: Callable, case: Case, operands: Arrays) -> tuple[Callable, Callable, float, float]:
    """Return both programs, the seconds that they took to compile, and the memory of the second one."""
    x, w, dy = (jnp.asarray(v, case.dtype) for v in operands[:3])
    forward, gradients = _functions(convolve, operands)
    start = time.perf_counter()
    one, both = jax.jit(forward).lower(x, w).compile(), jax.jit(gradients).lower(x, w, dy).compile()
    seconds, sizes = time.perf_counter() - start, cast(Any, both.memory_analysis())
    memory = sizes.temp_size_in_bytes / (sizes.argument_size_in_bytes + sizes.output_size_in_bytes)
    run, run_both = (lambda: jax.block_until_ready(one(x, w))), (lambda: jax.block_until_ready(both(x, w, dy)))
    return run, run_both, seconds, memory


def _float64_results(case: Case, operands: Arrays) -> list[np.ndarray]:
    """Compute output and gradients in float64 from the operands rounded to the dtype of the case."""
    rounded = [np.asarray(jnp.asarray(v, case.dtype), "f8") for v in operands[:3]]
    with jax.enable_x64(True):
        _, gradients = _functions(lax.conv_general_dilated, operands)
        return [np.asarray(value) for value in jax.jit(gradients)(*rounded)]
