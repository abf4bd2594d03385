"""Curvature: eigenvalues, trace and spectral density of the Hessian of a loss, from its products with vectors."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxconv.contract.apply import check_key
from jaxconv.inspect.lanczos import Product, largest, quadrature


class Curvature(NamedTuple):
    """The result of ``curvature``.

    eigenvalues: the algebraically largest eigenvalues of the Hessian, largest first.
    eigenvectors: a list of unit vectors, each in the structure of the params.
    residuals: the norms of ``H v - eigenvalue v``: an eigenvalue of H is at most that far from each.
    trace: Hutchinson's estimate, or None if not requested. trace_error: its standard error.
    nodes, weights: of the spectral density, sorted: ``sum(weights * f(nodes))`` estimates the mean of ``f`` over all
        eigenvalues; None if not requested. ``np.histogram(nodes, bins, weights=weights)`` computes its histogram.
    """

    eigenvalues: np.ndarray
    eigenvectors: list
    residuals: np.ndarray
    trace: float | None = None
    trace_error: float | None = None
    nodes: np.ndarray | None = None
    weights: np.ndarray | None = None


def curvature(
    loss: Callable[[Any], Array],
    params: Any,
    key: Any,
    top: int = 1,
    trace: bool = True,
    density: bool = False,
    samples: int = 32,
) -> Curvature:
    """Return the largest eigenvalues of a loss's Hessian with eigenvectors, its trace and its spectral density.

    The Hessian is never built: each product with a vector costs about four evaluations of the loss. Eigenvalues are
    computed by a block Lanczos method with full reorthogonalization, the trace by Hutchinson's estimator with random
    signs, the density by stochastic Lanczos quadrature. Runs on the host, outside ``jit``; for the smallest
    eigenvalues negate the loss.

    Args:
        loss: a twice differentiable scalar function of the params.
        params: a structure of real arrays; None leaves are skipped, so that the trainable part of ``apply_fn.split``
            can be given: ``loss = lambda trainable: loss_of(merge(trainable, fixed))``.
        key: a JAX PRNG key for the random vectors.
        top: the number of eigenvalues, at most the number of parameters.
        trace, density: whether to estimate them.
        samples: the number of random vectors for the trace, and an eighth of it for the density.

    Raises:
        ValueError: a loss that is not a real scalar, or not finite; ``top`` or ``samples`` out of range.
        TypeError: params that are not real numbers.

    Source: Lanczos 1950; Hutchinson 1990; Ghorbani et al. 2019, arXiv:1901.10159.

    >>> loss = lambda params: 2 * params["a"] ** 2 + 0.5 * params["b"] ** 2
    >>> found = curvature(loss, {"a": jnp.ones(()), "b": jnp.ones(())}, jax.random.key(0), top=2)
    >>> found.eigenvalues.round(4).tolist(), round(found.trace, 4)
    ([4.0, 1.0], 5.0)
    """
    check_key(key, "curvature")
    leaves, structure = jax.tree.flatten(params)
    for path, leaf in jax.tree.leaves_with_path(params):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            what = f"params{jax.tree_util.keystr(path)} has type {jnp.result_type(leaf)}"
            raise TypeError(f"curvature: {what}; give real numbers, and pass others to the loss through a closure")
    size = sum(jnp.size(leaf) for leaf in leaves)
    for name, value, limit in (("top", top, size), ("samples", samples, 10**6)):
        if isinstance(value, bool) or not hasattr(value, "__index__") or not 1 <= value <= limit:
            what = f"{name}={value!r} for {size} parameters"
            raise ValueError(f"curvature: {what}; expected an integer from 1 to {limit}")
    product = _hessian_product(loss, leaves, structure)
    rng = np.random.default_rng(np.asarray(jax.random.bits(key, (4,))))
    eps = max(float(jnp.finfo(jnp.result_type(leaf)).eps) for leaf in leaves)
    found = largest(product, size, top, rng, 400 * eps)
    vectors = [_as_tree(vector, leaves, structure) for vector in found.vectors.T]
    rest: dict[str, Any] = {}
    if trace:
        signs = rng.choice([-1.0, 1.0], (samples, size))
        terms = np.array([sign @ product(sign[:, None])[:, 0] for sign in signs])
        error = float(terms.std(ddof=1) / samples**0.5) if samples > 1 else np.inf
        rest |= {"trace": float(terms.mean()), "trace_error": error}
    if density:
        rest |= _density(product, size, max(1, samples // 8), rng)
    return Curvature(found.values, vectors, found.residuals, **rest)


def _hessian_product(loss: Callable, leaves: list, structure: Any) -> Product:
    """Return a function that multiplies the Hessian by each column of a matrix.

    Raises ValueError for a loss that is not a real scalar.
    """
    params = structure.unflatten(map(jnp.asarray, leaves))
    value = jax.eval_shape(loss, params)
    if getattr(value, "shape", None) != () or not jnp.issubdtype(value.dtype, jnp.floating):
        got = getattr(value, "shape", None), getattr(value, "dtype", type(value).__name__)
        raise ValueError(f"curvature: the loss has shape {got[0]} and type {got[1]}; expected a real scalar")

    @jax.jit
    def along(params: Any, direction: Any) -> Any:
        return jax.jvp(jax.grad(loss), (params,), (direction,))[1]

    def product(matrix: np.ndarray) -> np.ndarray:
        columns = []
        for vector in matrix.T:
            image = along(params, _as_tree(vector, leaves, structure))
            columns.append(np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(image)]))
        result = np.stack(columns, 1)
        if not np.all(np.isfinite(result)):
            raise ValueError("curvature: the Hessian is not finite at these params; check the loss and its gradient")
        return result

    return product


def _as_tree(vector: np.ndarray, leaves: list, structure: Any) -> Any:
    """Return a vector in the structure, shapes and types of the params."""
    ends = np.cumsum([np.size(leaf) for leaf in leaves])[:-1]
    parts = zip(np.split(vector, ends), leaves, strict=True)
    return structure.unflatten(jnp.asarray(part.reshape(np.shape(leaf)), jnp.result_type(leaf)) for part, leaf in parts)


def _density(product: Product, size: int, probes: int, rng: np.random.Generator, steps: int = 80) -> dict[str, Any]:
    """Return nodes and weights of the spectral density, from Lanczos runs with random start vectors."""
    nodes, weights = [], []
    for _ in range(probes):
        start = rng.standard_normal(size)
        found = quadrature(product, start / np.linalg.norm(start), steps)
        nodes.append(found[0])
        weights.append(found[1] / probes)
    order = np.argsort(np.concatenate(nodes))
    return {"nodes": np.concatenate(nodes)[order], "weights": np.concatenate(weights)[order]}
