"""Linear layers as linear maps: singular values, and the frequency response of one-dimensional kernels."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv.contract import Apply, Layer, Params, as_layer
from jaxconv.inspect.lanczos import largest

DENSE = 2**26  # the largest number of entries of a matrix that is built


class Spectrum(NamedTuple):
    """A frequency response: ``frequencies`` in cycles per step, from 0 to 0.5; ``magnitudes``, (n, ...)."""

    frequencies: np.ndarray
    magnitudes: np.ndarray


def spectrum(kernel: Any, n: int | None = None, dilation: int = 1) -> Spectrum:
    """Return the frequency response of one-dimensional kernels: the factor by which they amplify each frequency.

    Args:
        kernel: (taps, ...), such as the kernel of a Conv1D, (taps, channels, filters); all other axes are kept.
        n: the number of frequencies, at least 2; 257 if None.
        dilation: the dilation rate of the layer, which repeats the spectrum.

    Raises:
        ValueError: a kernel that is not a real array; ``n`` or ``dilation`` out of range.

    >>> frequencies, magnitudes = spectrum(jnp.array([0.5, 0.5]), 3)
    >>> frequencies.tolist(), magnitudes.round(4).tolist()
    ([0.0, 0.25, 0.5], [1.0, 0.7071, 0.0])
    """
    taps = np.asarray(kernel)
    if taps.ndim == 0 or taps.dtype.kind not in "fiuV" or taps.size == 0:
        raise ValueError(f"spectrum: kernel of shape {taps.shape} and type {taps.dtype}; give real (taps, ...)")
    count = 257 if n is None else n
    for name, value, minimum in (("n", count, 2), ("dilation", dilation, 1)):
        if isinstance(value, bool) or not hasattr(value, "__index__") or value < minimum:
            raise ValueError(f"spectrum: {name}={value!r} is not valid; expected an integer of at least {minimum}")
    frequencies = np.linspace(0, 0.5, count)
    phases = np.exp(2j * np.pi * np.outer(frequencies, dilation * np.arange(len(taps))))
    return Spectrum(frequencies, np.abs(np.tensordot(phases, taps.astype(np.float64), 1)))


def singular_values(layer: Layer | Apply, params: Params, shape: Any, top: int | None = None) -> np.ndarray:
    """Return the singular values of a layer as a linear map of one input of this shape, largest first.

    The bias and the option ``activation`` are left out. The largest singular value is the layer's Lipschitz constant.
    With circular padding, and any stride, dilation and groups, the map is block diagonal in the Fourier basis, and all
    singular values are computed exactly from many small decompositions. Otherwise they are computed from the matrix of
    the map. If the matrix is too large to build, the ``top`` largest ones are computed by a Lanczos method on the layer
    and its transpose. Runs on the host, outside ``jit``.

    Args:
        layer: a layer or a model that is linear except for biases, or its ``apply_fn``.
        params: the params of the layer.
        shape: the shape of the input, batch first.
        top: the number of singular values; None returns all ``min(inputs, outputs)`` of them.

    Returns:
        (top,), in float64.

    Raises:
        ValueError: a layer that is not linear; unknown lengths; ``top`` out of range; all singular values of a matrix
            that is too large.

    Source: Sedghi et al. 2019, arXiv:1805.10408.

    >>> layer = jaxconv.Conv1D(1, 2, padding="same", padding_mode="circular", use_bias=False)
    >>> singular_values(layer, {"kernel": jnp.ones((2, 1, 1))}, (None, 4, 1)).round(4).tolist()
    [2.0, 1.4142, 1.4142, 0.0]
    """
    layer = as_layer(layer, "singular_values(layer, params, shape)", params)
    if getattr(layer, "activation", None) is not None:
        layer = dataclasses.replace(layer, activation=None)  # type: ignore[call-arg]  # a field of some layers
    linear = _Map(layer, params, shape)
    count = min(linear.inputs, linear.outputs)
    if top is not None and (isinstance(top, bool) or not hasattr(top, "__index__") or not 1 <= top <= count):
        raise ValueError(f"singular_values: top={top!r} is not valid; expected None or an integer from 1 to {count}")
    strides = linear.circular_strides()
    if strides is not None:
        return _by_fourier(linear, strides)[:top]
    if linear.inputs * linear.outputs <= DENSE:
        return np.linalg.svd(linear.matrix(), compute_uv=False)[:top]
    if top is None:
        what = f"the matrix of {layer.label} is {linear.outputs} x {linear.inputs}, too large to build"
        raise ValueError(f"singular_values: {what}; give top, the number of largest singular values")
    return _by_lanczos(linear, top)


class _Map:
    """The linear part of a layer, on NumPy arrays in float64 with a leading axis of any length."""

    def __init__(self, layer: Layer, params: Params, shape: Any):
        self.layer = layer
        given = layer.read_shape(shape)
        if isinstance(given, list | dict) or None in given[1:]:
            raise ValueError(f"singular_values: input of shape {given}; give one input with known lengths")
        self.shape = (1, *given[1:])
        self.dtype = layer.policy.compute
        self._apply = jax.jit(layer.apply_fn)
        self._params = params
        self.output_shape = jax.eval_shape(self._apply, params, jnp.zeros(self.shape, self.dtype)).shape
        self.inputs, self.outputs = math.prod(self.shape), math.prod(self.output_shape)
        self._check()

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Apply the linear part to a batch."""
        given = jnp.asarray(x.reshape(-1, *self.shape[1:]), self.dtype)
        # the derivative, which removes biases without rounding
        y = jax.jvp(lambda x: self._apply(self._params, x), (jnp.zeros_like(given),), (given,))[1]
        return np.asarray(y, np.float64)

    def transposed(self, y: np.ndarray) -> np.ndarray:
        """Apply the transpose to a batch."""
        given = jnp.asarray(y.reshape(-1, *self.output_shape[1:]), self.dtype)
        zeros = jnp.zeros((len(given), *self.shape[1:]), self.dtype)
        return np.asarray(jax.vjp(lambda x: self._apply(self._params, x), zeros)[1](given)[0], np.float64)

    def matrix(self) -> np.ndarray:
        """Return the matrix of the map or its transpose: the one that needs fewer products."""
        if self.inputs <= self.outputs:
            return self(np.eye(self.inputs)).reshape(self.inputs, -1)
        return self.transposed(np.eye(self.outputs)).reshape(self.outputs, -1)

    def _check(self) -> None:
        """Raise ValueError if the map is not linear: its derivative at zero does not predict its values."""
        x = np.random.default_rng(0).standard_normal((2, *self.shape[1:]))
        values = [np.asarray(self._apply(self._params, jnp.asarray(v, self.dtype)), np.float64) for v in (0 * x, x)]
        predicted = values[0] + self(x)
        error = np.abs(values[1] - predicted).max(initial=0)
        if not error <= 0.02 * np.abs(predicted).max(initial=0):
            what = f"{self.layer.label} is not linear: at a random input it differs by {error:.3g} from its linear part"
            raise ValueError(f"singular_values: {what}; give a part without activations, such as model[0]")

    def circular_strides(self) -> tuple[int, ...] | None:
        """Return the stride of each axis if the map commutes with circular shifts by the strides, otherwise None.

        Such a shift of the input shifts the output by one step. The channel axis has stride 0: it is not shifted.
        """
        windows = self.layer.windows(self.shape)
        lengths, out = self.shape[1:], self.output_shape[1:]
        if len(out) != len(lengths):
            return None
        strides = []
        for axis, (window, n, m) in enumerate(zip(windows, lengths, out, strict=True)):
            if window.reads_all:
                strides.append(0)
                continue
            wraps = window.mode == "circular" or (window.size == 1 and n == window.stride * m)
            if window.transposed or window.axis not in (None, axis) or not wraps or n != window.stride * m:
                return None
            strides.append(window.stride)
        if strides.count(0) != 1:
            return None
        x = np.random.default_rng(1).standard_normal(self.shape)  # a locally connected layer has the same windows
        shifted = self(np.roll(x, strides, range(1, x.ndim)))
        expected = np.roll(self(x), [int(s > 0) for s in strides], range(1, x.ndim))
        return tuple(strides) if np.allclose(shifted, expected, rtol=0, atol=1e-3 * np.abs(expected).max()) else None


def _by_fourier(linear: _Map, strides: tuple[int, ...]) -> np.ndarray:
    """Return all singular values of a map that commutes with shifts by these strides.

    The Fourier transform, over the output's positions, of its responses to an impulse at each phase gives the blocks of
    the map in the Fourier basis: for each frequency a matrix (channels out, phases and channels in).
    """
    channels = strides.index(0)
    phases = [range(s) if s else range(n) for s, n in zip(strides, linear.shape[1:], strict=True)]
    impulses = np.zeros((math.prod(map(len, phases)), *linear.shape[1:]))
    for number, place in enumerate(np.ndindex(*map(len, phases))):
        impulses[(number, *place)] = 1
    responses = linear(impulses)
    spatial = [axis + 1 for axis in range(len(strides)) if axis != channels]
    blocks = np.moveaxis(np.fft.fftn(responses, axes=spatial), (0, 1 + channels), (-2, -1))
    return np.sort(np.linalg.svd(blocks, compute_uv=False).ravel())[::-1]


def _by_lanczos(linear: _Map, top: int) -> np.ndarray:
    """Return the largest singular values: the largest eigenvalues of the symmetric matrix [[0, A'], [A, 0]]."""

    def product(vectors: np.ndarray) -> np.ndarray:
        x, y = vectors[: linear.inputs].T, vectors[linear.inputs :].T
        count = vectors.shape[1]
        return np.hstack([linear.transposed(y).reshape(count, -1), linear(x).reshape(count, -1)]).T

    eps = float(jnp.finfo(linear.dtype).eps)
    rng = np.random.default_rng(0)
    return largest(product, linear.inputs + linear.outputs, top, rng, 20 * eps).values
