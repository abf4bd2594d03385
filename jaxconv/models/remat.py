"""Rematerialization: each block of a model stores only its input for the gradient, and is computed again for it."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp

from jaxconv.contract import Apply, Effects, Params

_active: ContextVar[bool] = ContextVar("remat", default=False)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, repr=False)
class _Remat(Apply):
    """The functions of a model whose forward pass is rematerialized."""

    def forward(self, params: Params, x: Any, **options: Any) -> tuple[Any, Effects]:
        with _set(True):
            return super().forward(params, x, **options)


def remat(apply_fn: Apply) -> Apply:
    """Return the same functions with a forward pass whose gradient needs less memory and more time.

    Each layer directly inside a Sequential or Model is a block: only its input is stored, and its intermediate values
    are computed again for the gradient, with the same dropout. The results are the same up to rounding. A container
    inside is one block: to save memory in a long model, group its layers in Sequentials inside a Sequential, each with
    about as many layers as there are blocks. Forward-mode derivatives are not supported.

    Args:
        apply_fn: the functions of a Sequential, Model or other container.

    Raises:
        ValueError: a model without layers inside.

    >>> dense = jaxconv.Dense(4, activation="tanh")
    >>> model = jaxconv.Sequential([jaxconv.Sequential([dense, dense]), jaxconv.Dense(1)])
    >>> params, apply_fn = model.init(jax.random.key(0), (None, 4))
    >>> loss = lambda params: remat(apply_fn).forward(params, jnp.ones((1, 4)), train=True)[0].sum()
    >>> str(jax.make_jaxpr(jax.grad(loss))(params)).count(" tanh ")  # two, and again
    4
    """
    layer = getattr(apply_fn, "layer", None)
    if getattr(layer, "graph", None) is None:
        label = getattr(layer, "label", apply_fn)
        raise ValueError(f"remat: {label} has no layers inside; give the apply_fn of a Sequential or Model")
    return _Remat(layer)


def block(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function(params, x, ...) -> (y, ...)``, as one rematerialized block if rematerialization is active."""
    if not _active.get():
        return function

    def whole(*arguments: Any) -> Any:
        with _set(False):
            return function(*arguments)

    def backward(arguments: Any, cotangents: Any) -> Any:
        params, x, *others = arguments
        x = _after(jax.tree.leaves(cotangents[0])[0], x)
        return jax.vjp(whole, params, x, *others)[1](cotangents)

    rematerialized = jax.custom_vjp(whole)
    rematerialized.defvjp(lambda *arguments: (whole(*arguments), arguments), backward)
    return rematerialized


def _after(cotangent: Any, x: Any) -> Any:
    """Return ``x`` unchanged, through an operation that depends on the cotangent.

    The barrier of ``jax.checkpoint`` does not depend on the cotangent, and XLA on CPU removes it: then the blocks are
    computed again before they are needed, and memory grows. Each sample depends only on its own cotangent, so sharded
    samples are not gathered.
    """
    if cotangent.dtype == jax.dtypes.float0 or not cotangent.size or not cotangent.ndim:
        return x
    first = cotangent.reshape(cotangent.shape[0], -1)[:, 0]
    # always False, which XLA cannot prove
    never = (first != first) & (abs(first) < 1)

    def one(leaf: Any) -> Any:
        samples = never if leaf.shape[:1] == never.shape else never[0]
        samples = samples.reshape(*samples.shape, *(1,) * (leaf.ndim - samples.ndim))
        return jnp.where(samples, jnp.zeros((), leaf.dtype), leaf)

    return jax.tree.map(one, x)


@contextlib.contextmanager
def _set(value: bool) -> Iterator[None]:
    token = _active.set(value)
    try:
        yield
    finally:
        _active.reset(token)
