"""``lowering``: a context manager that requests a lowering by name."""

import contextlib
from collections.abc import Iterator

import jax

from jaxconv.kernels.lowerings import find_lowering

_override = jax.make_user_context(default_value=None)  # part of jit's cache key: a change causes retracing


@contextlib.contextmanager
def lowering(name: str | None) -> Iterator[None]:
    """Compute the convolutions inside ``with lowering(name):`` by one lowering, on every platform.

    The name applies to every convolution that is traced inside, and to those of its derivatives that the lowering
    supports: ``"xla"`` supports everything, ``"im2col"`` the convolution and its kernel gradient. A convolution that it
    does not support raises ValueError. ``explain_lowering`` lists the lowerings that support a convolution.

    Args:
        name: ``"xla"``, ``"xla_nhwc"``, ``"xla_extra_row"``, ``"leading_axis"``, ``"matmul"``,
            ``"stacked_taps"``, ``"im2col"``, ``"shift_add"``, ``"polyphase"``, ``"exchanged"``,
            ``"row_correlation"``, ``"block_diagonal"``, ``"groups_last"``, ``"winograd"``, ``"fourier"``, or None
            for the default choice.

    Raises:
        ValueError: if the name is unknown; inside the block, if the lowering does not support a convolution. The
            message lists those that do.

    >>> x, w = jnp.ones((1, 8, 2)), jnp.ones((3, 2, 4))
    >>> with jaxconv.lowering("fourier"):
    ...     y = jaxconv.conv1d(x, w)
    >>> y.shape
    (1, 6, 4)
    """
    if name is not None:
        find_lowering(name)
    with _override(name):
        yield


def current() -> str | None:
    """Return the requested name, or None."""
    return _override.value
