"""SpectralNormalization and WeightNormalization: wrappers that compute a layer's kernel from the stored one.

The leaf of the wrapped layer that they replace is named "kernel" or "embeddings".
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxconv import geometry as geo
from jaxconv import initializers
from jaxconv.contract import Effects, Params, Shape, Weight, Window, as_shape, layers, register
from jaxconv.contract.weights import check_shapes
from jaxconv.dtypes import promote
from jaxconv.errors import explain
from jaxconv.layers.wrapper import Wrapper

KERNELS = ("kernel", "embeddings")


@dataclasses.dataclass(frozen=True)
class Reparametrization(Wrapper):
    """A wrapper of a layer with a kernel. The subclass implements ``kernel``, and may have weights of its own."""

    output_values: ClassVar[str | None] = "layer"

    def __post_init__(self) -> None:
        super().__post_init__()
        where, inside = type(self).__name__, self.layer
        if not set(KERNELS) & set(inside.leaves):
            raise ValueError(f"{where}: {inside.label} has no kernel and no embeddings; wrap a layer like Conv1D(8, 3)")

    def kernel(self, params: Params, train: bool) -> tuple[Array, Params]:
        """Return (the kernel to compute with, new values of statistics)."""
        raise NotImplementedError

    @property
    def leaf(self) -> str:
        """Return the name of the wrapped layer's leaf that is replaced."""
        return next(name for name in KERNELS if name in self.layer.leaves)

    def output_shape(self, input_shape: Any) -> Shape:
        # so that an error names both layers
        with explain(type(self).__name__):
            return self.layer.output_shape(input_shape)

    def multiply_adds(self, input_shape: Any) -> int | None:
        return self.layer.multiply_adds(input_shape)  # without those of the kernel, which can be computed in advance

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        return self.layer.windows(input_shape)

    def init_params(self, key: Any, input_shape: Shape) -> Params:
        inside_key, own_key = jax.random.split(key)
        return super().init_params(own_key, input_shape) | {"layer": self.layer.init_params(inside_key, input_shape)}

    def call(self, params: Params, x: Any, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        inside = params["layer"]
        with explain(type(self).__name__):
            self.layer._check_own_names(inside)
            shape = as_shape(np.shape(x), self.layer.label)
            self.layer.output_shape(shape)
            check_shapes(self.layer, inside, shape)
        check_shapes(self, params, shape)
        kernel, statistics = self.kernel(params, train)
        kernel = kernel.astype(inside[self.leaf].dtype)
        y, effects = self.layer.forward({**inside, self.leaf: kernel}, x, train=train, key=key, mask=mask)
        fixed = self.select(params, fixed=True)
        stored = fixed["layer"][self.leaf]  # a frozen layer returns the kernel that it was called with
        fixed = {**fixed, **statistics, "layer": {**effects.fixed, self.leaf: stored}}
        return y, Effects(fixed, effects.penalty, effects.mask)


@register(layers)
class SpectralNormalization(Reparametrization):
    """Divide the kernel of a layer by its largest singular value, which bounds the spectral norm of the kernel by 1.

    The kernel counts as a matrix of shape (all other axes, last axis). Each training call improves the estimate
    ``u`` of its singular vector by ``power_iterations`` steps and computes with ``kernel / sigma``, differentiated
    as if ``u`` and ``v`` were constant. At inference the stored kernel is used unchanged, as in Keras.

    Keras writes the divided kernel into the layer during the call. Here a call changes no weights: ``project`` divides
    the stored kernel after each update, so that inference uses a normalized kernel as well. With ``trainable=False``,
    of this layer or the one inside, nothing is divided and ``u`` stays the same. A kernel of zeros stays zero.
    Regularizers and constraints of the layer inside act on the stored kernel, constraints before the division.

    Args:
        layer: a layer with a kernel or with embeddings.
        power_iterations: steps of the power method for each call, at least 1.

    Shapes: Those of the layer inside.

    Params:
        layer: the params of the layer inside.
        vector_u: (1, last size of the kernel), truncated normal of deviation 0.02; fixed.

    Raises:
        TypeError: an argument that is not a layer.
        ValueError: a layer without kernel; a count below 1; the errors of the layer inside.

    Source: Miyato et al. 2018, https://arxiv.org/abs/1802.05957

    >>> layer = SpectralNormalization(jaxconv.Dense(2, kernel_initializer="ones"), power_iterations=9)
    >>> params, apply_fn = layer.init(jax.random.key(0), (None, 2))
    >>> apply_fn.project(params)["layer"]["kernel"].round(3)  # the matrix of ones has the singular value 2
    Array([[0.5, 0.5],
           [0.5, 0.5]], dtype=float32)
    """

    power_iterations: int = 1

    statistics: ClassVar[frozenset[str]] = frozenset({"vector_u"})
    checks: ClassVar[dict[str, Any]] = {"power_iterations": geo.as_size}

    @property
    def leaves(self) -> dict[str, str]:
        return {"vector_u": "vector_u"}

    @property
    def keras_variables(self) -> tuple[tuple[str, ...], ...]:
        return (("layer", self.leaf), ("vector_u",))  # Keras's wrapper lists the kernel inside as its own

    def weights(self, input_shape: Shape) -> dict[str, Weight]:
        width = self.layer.weights(input_shape)[self.leaf].shape[-1]
        return {"vector_u": Weight((1, width), initializers.TruncatedNormal(stddev=0.02))}

    def kernel(self, params: Params, train: bool) -> tuple[Array, Params]:
        stored = params["layer"][self.leaf]
        if not train or self.layer.is_fixed(self.leaf):
            return stored, {}
        divided, u = self._divide(stored, params["vector_u"])
        return divided, {"vector_u": u.astype(params["vector_u"].dtype)}

    def _divide(self, stored: Array, u: Array) -> tuple[Array, Array]:
        """Return the kernel divided by its spectral norm, and the improved estimate of the singular vector."""
        matrix = stored.reshape(-1, stored.shape[-1]).astype(promote(stored.dtype, jnp.float32))
        constant, better = lax.stop_gradient(matrix), u.astype(matrix.dtype)
        for _ in range(self.power_iterations):
            v = _unit(better @ constant.T)
            better = _unit(v @ constant)
        sigma = (v @ matrix @ better.T).reshape(())
        nonzero = sigma != 0
        divided = matrix / jnp.where(nonzero, sigma, jnp.ones_like(sigma))
        return divided.reshape(stored.shape).astype(stored.dtype), jnp.where(nonzero, better, u.astype(better.dtype))

    def project(self, params: Params) -> Params:
        done = super().project(params)
        if self.layer.is_fixed(self.leaf):
            return done
        divided, _ = self._divide(done["layer"][self.leaf], params["vector_u"])
        return done | {"layer": done["layer"] | {self.leaf: divided}}


def _unit(vector: Array) -> Array:
    return vector * lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(vector)), 1e-14))


@register(layers)
class WeightNormalization(Reparametrization):
    """Compute a layer with ``kernel = g * v / ||v||``: norm and direction of each filter are learned separately.

    ``v`` is the stored kernel of the layer inside, and ``||v||`` the norm of each filter. ``g`` starts as ``||v||``, so
    that the initial kernel is ``v``. Not in Keras's core. Regularizers and constraints of the layer inside act on
    ``v``. A filter of zeros stays zero.

    Args:
        layer: a layer with a kernel or with embeddings.

    Shapes: Those of the layer inside.

    Params:
        layer: the params of the layer inside; its kernel is v.
        g: the sizes of the kernel without the axes of one filter, (filters,) for a convolution; the norms of v.

    Raises:
        TypeError: an argument that is not a layer.
        ValueError: a layer without kernel; the errors of the layer inside.

    Source: Salimans and Kingma 2016, https://arxiv.org/abs/1602.07868

    >>> params, apply_fn = WeightNormalization(jaxconv.Conv1D(4, 3)).init(jax.random.key(0), (None, 10, 2))
    >>> params["g"].shape, params["layer"]["kernel"].shape, apply_fn(params, jnp.ones((1, 10, 2))).shape
    ((4,), (3, 2, 4), (1, 8, 4))
    """

    @property
    def leaves(self) -> dict[str, str]:
        return {"g": "g"}

    def _axes(self, rank: int) -> tuple[int, ...]:
        """Return the axes of one filter."""
        axes = self.layer.filter_axes(self.leaf)
        return tuple(range(rank - 1)) if axes is None else tuple(axis % rank for axis in axes)

    def weights(self, input_shape: Shape) -> dict[str, Weight]:
        shape = self.layer.weights(input_shape)[self.leaf].shape
        axes = self._axes(len(shape))
        sizes = tuple(size for axis, size in enumerate(shape) if axis not in axes)
        return {"g": Weight(sizes, initializers.get("ones"))}

    def init_params(self, key: Any, input_shape: Shape) -> Params:
        params = super().init_params(key, input_shape)
        _, norm = self._norms(params["layer"][self.leaf])
        return params | {"g": norm.reshape(params["g"].shape).astype(params["g"].dtype)}

    def _norms(self, stored: Array) -> tuple[Array, Array]:
        """Return v in at least float32, and the norms of its filters."""
        v = stored.astype(promote(stored.dtype, jnp.float32))
        square = jnp.sum(jnp.square(v), self._axes(v.ndim), keepdims=True)
        return v, jnp.sqrt(jnp.maximum(square, 1e-30))  # the root has no derivative at zero

    def kernel(self, params: Params, train: bool) -> tuple[Array, Params]:
        v, norm = self._norms(params["layer"][self.leaf])
        return v * (params["g"].astype(v.dtype).reshape(norm.shape) / norm), {}
