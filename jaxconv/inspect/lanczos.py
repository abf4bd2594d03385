"""Lanczos methods: the largest eigenvalues of a symmetric matrix, from its products with vectors, on the host.

Vectors are NumPy arrays in float64, regardless of the precision of the products.
"""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxconv.errors import caller_level

Product = Callable[[np.ndarray], np.ndarray]  # (size, count) -> (size, count): the matrix times each column


class Eigenpairs(NamedTuple):
    """Eigenvalues, largest first; eigenvectors as columns; the norms of ``A v - value v``."""

    values: np.ndarray
    vectors: np.ndarray
    residuals: np.ndarray


def largest(
    product: Product, size: int, top: int, rng: np.random.Generator, tolerance: float, products: int = 2000
) -> Eigenpairs:
    """Return the algebraically largest eigenvalues, by the block Lanczos method with full reorthogonalization.

    A block has more than ``top`` columns, so that multiple eigenvalues are found with their multiplicity. The basis is
    restarted from its best vectors when it becomes large. ``tolerance`` limits the residuals, as a fraction of the
    largest absolute eigenvalue. Warns if ``products`` products with vectors are not enough.
    """
    block = min(top + 2, size)
    max_columns = min(size, max(8 * block, 100))
    basis = np.linalg.qr(rng.standard_normal((size, block)))[0]
    image = product(basis)
    used = block
    while True:
        values, rotation = np.linalg.eigh(basis.T @ image)
        values, rotation = values[::-1], rotation[:, ::-1]
        vectors, images = basis @ rotation, image @ rotation
        residual = images[:, :block] - vectors[:, :block] * values[:block]
        norms = np.linalg.norm(residual, axis=0)[:top]
        scale = max(np.abs(values).max(), np.finfo(np.float32).tiny)
        if norms.max() <= tolerance * scale or basis.shape[1] >= size:
            break
        if used >= products:
            found = f"the eigenvalues {values[:top]} have the residuals {norms}"
            text = f"{used} products were not enough: {found}; true eigenvalues are within these residuals"
            warnings.warn(text, RuntimeWarning, stacklevel=caller_level())
            break
        if basis.shape[1] + block > max_columns and size > max_columns:
            basis, image = vectors[:, : 2 * block], images[:, : 2 * block]
        new = _orthogonal_to(basis, residual, rng)
        basis, image = np.hstack([basis, new]), np.hstack([image, product(new)])
        used += new.shape[1]
    return Eigenpairs(values[:top], vectors[:, :top], norms)


def quadrature(product: Product, start: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights of a quadrature: ``sum(weights * f(nodes))`` is about ``start' f(A) start``.

    ``start`` has norm 1. It is exact for polynomials up to degree ``2 * steps - 1``.
    """
    basis = start[:, None]
    diagonal, off_diagonal = [], []
    for _ in range(min(steps, len(start))):
        image = product(basis[:, -1:])[:, 0]
        diagonal.append(basis[:, -1] @ image)
        for _ in range(2):  # twice is enough: Parlett
            image = image - basis @ (basis.T @ image)
        norm = np.linalg.norm(image)
        if norm <= 1e-6 * max(map(abs, diagonal)):
            break
        off_diagonal.append(norm)
        basis = np.hstack([basis, (image / norm)[:, None]])
    off_diagonal = off_diagonal[: len(diagonal) - 1]
    nodes, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(off_diagonal, 1) + np.diag(off_diagonal, -1))
    return nodes, vectors[0] ** 2


def _orthogonal_to(basis: np.ndarray, block: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return an orthonormal block that is orthogonal to a basis; a column that vanishes is replaced by a random one."""
    size = min(block.shape[1], len(basis) - basis.shape[1])
    block = block[:, :size]
    for _ in range(3):
        norms = np.linalg.norm(block, axis=0)
        lost = norms <= 1e-12 * max(norms.max(), 1e-300)
        block = np.where(lost, rng.standard_normal(block.shape), block / np.where(lost, 1, norms))
        block = np.linalg.qr(block - basis @ (basis.T @ block))[0]
    return block
