"""The lowering that a caller requests around a piece of code. Knows the names of lowerings and nothing else."""

import contextlib
from collections.abc import Iterator

import jax

from jaxconv.kernels.lowerings import find_lowering

_override = jax.make_user_context(default_value=None)  # part of jit's cache key: a change traces anew


@contextlib.contextmanager
def lowering(name: str | None) -> Iterator[None]:
    """Compute the convolutions inside ``with lowering(name):`` by one lowering, on every platform.

    The name holds for every convolution that is traced inside, and for the derivatives of those as far as the lowering
    computes them: ``"xla"`` computes everything, ``"im2col"`` the convolution and its kernel gradient. A convolution
    that it cannot compute raises. ``explain_lowering`` lists the names that can.

    Args:
        name: ``"xla"``, ``"xla_nhwc"``, ``"xla_extra_row"``, ``"leading_axis"``, ``"matmul"``,
            ``"stacked_taps"``, ``"im2col"``, ``"shift_add"``, ``"polyphase"``, ``"exchanged"``,
            ``"row_correlation"``, ``"block_diagonal"``, ``"groups_last"``, ``"winograd"``, ``"fourier"``, or None
            for the default choice.

    Raises:
        ValueError: an unknown name; inside, a convolution that this lowering cannot compute, with those that can.

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
    """Return the name in force, or None."""
    return _override.value
