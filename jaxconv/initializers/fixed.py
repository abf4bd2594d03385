"""Initializers without randomness; they ignore the key."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv.initializers.frozen_array import FrozenArray
from jaxconv.initializers.initializer import Initializer, Shape, choice, number, registry
from jaxconv.registry import register


@register(registry, "zero")
class Zeros(Initializer):
    """Fill with zeros.

    >>> Zeros()(None, (2,)).tolist()
    [0.0, 0.0]
    """

    def __call__(self, key: jax.Array | None, shape: Shape, dtype: Any = jnp.float32) -> jax.Array:
        return jnp.zeros(shape, dtype)


@register(registry, "one")
class Ones(Initializer):
    """Fill with ones.

    >>> Ones()(None, (2,)).tolist()
    [1.0, 1.0]
    """

    def __call__(self, key: jax.Array | None, shape: Shape, dtype: Any = jnp.float32) -> jax.Array:
        return jnp.ones(shape, dtype)


@register(registry)
class Constant(Initializer):
    """Fill with a number, or with an array broadcast to the shape.

    Args:
        value: a number, an array or nested lists.

    Raises:
        TypeError: for values that are not real numbers.
        ValueError: when called, for an array that cannot be broadcast to the shape.

    >>> Constant([1, 2])(None, (2, 2)).tolist()
    [[1.0, 2.0], [1.0, 2.0]]
    """

    value: Any = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.value, bool | int | float):
            frozen = FrozenArray.of(self.value, "Constant: value")
            self._set(value=frozen if frozen.shape else frozen.tolist())

    def __call__(self, key: jax.Array | None, shape: Shape, dtype: Any = jnp.float32) -> jax.Array:
        if not isinstance(self.value, FrozenArray):
            return jnp.full(shape, self.value, dtype)
        try:
            return jnp.asarray(np.broadcast_to(self.value.numpy().astype(jnp.dtype(dtype)), shape))
        except ValueError:
            what = f"a value of shape {self.value.shape} cannot be broadcast to the shape {tuple(shape)}"
            raise ValueError(f"Constant: {what}") from None

    def get_config(self) -> dict[str, Any]:
        return {"value": self.value.tolist() if isinstance(self.value, FrozenArray) else self.value}


@register(registry)
class Values(Initializer):
    """Return a given array. An array passed as an initializer becomes this one; Keras has no config for it.

    Args:
        value: an array or nested lists.

    Raises:
        TypeError: for values that are not real numbers.
        ValueError: when called for a shape other than that of the array.

    >>> Values(np.arange(3))(None, (3,)).tolist()
    [0.0, 1.0, 2.0]
    """

    value: Any

    def __post_init__(self) -> None:
        self._set(value=FrozenArray.of(self.value, "Values: value"))

    def __call__(self, key: jax.Array | None, shape: Shape, dtype: Any = jnp.float32) -> jax.Array:
        if tuple(shape) != self.value.shape:
            raise ValueError(f"the initial value has the shape {self.value.shape}; the weight needs {tuple(shape)}")
        return jnp.asarray(self.value.numpy().astype(jnp.dtype(dtype)))

    def get_config(self) -> dict[str, Any]:
        return {"value": self.value.tolist()}


@register(registry, "IdentityInitializer")
class Identity(Initializer):
    """Return ``gain`` times the identity matrix, for a weight of rank 2.

    The config stores the gain, which Keras's omits.

    >>> Identity(2.0)(None, (2, 2)).tolist()
    [[2.0, 0.0], [0.0, 2.0]]
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        self._set(gain=number(self.gain, "Identity: gain"))

    def __call__(self, key: jax.Array | None, shape: Shape, dtype: Any = jnp.float32) -> jax.Array:
        if len(shape) != 2:
            raise ValueError(f"Identity: the weight must have 2 axes; got the shape {tuple(shape)}")
        rows, columns = shape
        return self.gain * jnp.eye(rows, columns, dtype=dtype)


@register(registry, "STFTInitializer")
class STFT(Initializer):
    """Return the real or imaginary part of a short-time Fourier transform, as a Conv1D kernel.

    Entry ``[t, 0, f]`` is ``window[t] * cos(2 pi t f / n)`` (or ``-sin``) divided by the window's L2 norm ("density")
    or L1 norm ("spectrum"), with ``n = 2 (bins - 1)``. Computed in float64; Keras rounds the angles to float32, which
    makes errors of up to 1e-4 on long frames.

    Args:
        side: ``"real"`` or ``"imag"``.
        window: a name for ``scipy.signal.get_window``, the values of a window, or ``None`` for neither window nor
            scaling.
        scaling: ``"density"``, ``"spectrum"`` or ``None``.
        periodic: use a periodic window (for spectral analysis) instead of a symmetric one.

    Shapes: (frame, 1, bins), at least 2 bins.

    Raises:
        ValueError: for an unknown side, window or scaling; when called, for another shape.

    >>> STFT("imag", window=None)(None, (4, 1, 3))[:, 0, 1].round(3).tolist()
    [-0.0, -1.0, -0.0, 1.0]
    """

    side: str = "real"
    window: Any = "hann"
    scaling: str | None = "density"
    periodic: bool = False

    def __post_init__(self) -> None:
        choice(self.side, ("real", "imag"), "STFT: side")
        if self.scaling is not None:
            choice(self.scaling, ("density", "spectrum"), "STFT: scaling")
        if isinstance(self.window, str):
            self._window(1)
        elif self.window is not None:
            self._set(window=FrozenArray.of(self.window, "STFT: window"))

    def __call__(self, key: jax.Array | None, shape: Shape, dtype: Any = jnp.float32) -> jax.Array:
        if len(shape) != 3 or shape[1] != 1 or shape[2] < 2:
            raise ValueError(f"STFT: the shape must be (frame, 1, bins) with at least 2 bins; got {tuple(shape)}")
        frame, _, bins = shape
        period = 2 * (bins - 1)
        turns = np.outer(np.arange(frame), np.arange(bins)) % period  # exact, unlike the remainder of the angle
        angle = 2 * np.pi * turns / period
        kernel = np.cos(angle) if self.side == "real" else -np.sin(angle)
        if self.window is not None:
            window = self._window(frame)
            norms = {"density": np.sqrt(np.sum(window**2)), "spectrum": np.sum(np.abs(window)), None: 1.0}
            kernel = kernel * window[:, None] / norms[self.scaling]
        return jnp.asarray(kernel[:, None, :].astype(jnp.dtype(dtype)))

    def _window(self, frame: int) -> np.ndarray:
        if isinstance(self.window, FrozenArray):
            if self.window.shape != (frame,):
                raise ValueError(f"STFT: the window has the shape {self.window.shape}; the frame requires ({frame},)")
            return self.window.numpy()
        from scipy.signal import get_window  # slow to import

        try:
            return get_window(self.window, frame, self.periodic)
        except ValueError as error:
            raise ValueError(f"STFT: window {self.window!r} is unknown to scipy.signal.get_window: {error}") from None

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {**config, "window": self.window.tolist() if isinstance(self.window, FrozenArray) else self.window}
