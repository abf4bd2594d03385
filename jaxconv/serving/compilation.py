"""Ahead-of-time compilation of a model for a few batch sizes; other batches are padded or split."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv.errors import explain
from jaxconv.serving.inputs import cast_inputs, is_shape, map_shapes, read_function, read_input_shape, resolve_dtypes


@dataclasses.dataclass(frozen=True, eq=False)
class Compiled:
    """A model ready to run: ``y = compiled(x)``, for any number of samples, without compiling anything.

    A batch of one of the compiled sizes runs unchanged. A smaller one is padded with zeros to the next larger size, and
    its own rows of the output are returned. A batch larger than the largest size runs as several batches of that size.

    name: of the model. shapes: the shapes it was compiled for, smallest batch first. dtype: the type of the input, or a
    list or dict of types for several inputs.
    """

    name: str
    shapes: tuple[Any, ...]
    dtype: Any
    _params: Any = dataclasses.field(repr=False)
    _executables: tuple[tuple[int, Any], ...] = dataclasses.field(repr=False)

    def __call__(self, x: Any) -> Any:
        """Compute the output. Raises ValueError for input of another shape, TypeError for non-numeric input."""
        number = self._batch(x)
        x = cast_inputs(self.name, self.shapes[0], self.dtype, x)
        for size, run in self._executables:
            if number == size:
                return run(self._params, _placed(x, run))
            if number < size:
                padded = jax.tree.map(lambda one: _padded(one, size), x)  # noqa: B023
                y = run(self._params, _placed(padded, run))
                return jax.tree.map(lambda one: one[:number], y)
        size = self._executables[-1][0]
        parts = [self(jax.tree.map(lambda one: one[at : at + size], x)) for at in range(0, number, size)]  # noqa: B023
        return jax.tree.map(lambda *ys: jnp.concatenate(ys), *parts)

    def _batch(self, x: Any) -> int:
        """Return the number of samples, after checking all other sizes."""
        shapes, tree = jax.tree.flatten(jax.tree.map(np.shape, x), is_leaf=is_shape)
        expected, expected_tree = jax.tree.flatten(self.shapes[0], is_leaf=is_shape)
        batches = {shape[:1] for shape in shapes}
        fits = repr(tree) == repr(expected_tree) and [s[1:] for s in shapes] == [s[1:] for s in expected]
        if not fits or len(batches) != 1 or () in batches:
            got = shapes[0] if len(shapes) == 1 else shapes
            allowed = " or ".join(str(shape) for shape in self.shapes)
            raise ValueError(f"{self.name}: got input of shape {got}; it was compiled for {allowed}, of any batch size")
        return shapes[0][0]


def compile(apply_fn: Any, params: Any, input_shapes: Any, *, dtype: Any = None) -> Compiled:
    """Compile a model for inference ahead of time, for a few batch sizes; the result accepts any batch size.

    Each size is also run once, so that the first call is as fast as the later ones. The rows of a batch must not
    depend on each other, as is the case for every layer here at inference.

    Args:
        apply_fn: the second value of ``layer.init``, a layer, or any function of (params, x).
        params: its weights. They are not copied; do not modify them in place.
        input_shapes: a shape with batch first, or a list of such shapes that differ in the batch; for several inputs,
            a dict of shapes, or a list of lists or dicts of shapes.
        dtype: the type that the input is cast to. For several inputs, a list or dict of types, or one float type for
            those that are not declared as integers. By default the types that the inputs of a ``Model`` declare,
            float32 otherwise. The layers cast it as their policy says.

    Returns:
        a :class:`Compiled`, which is called as ``y = compiled(x)``.

    Raises:
        ValueError: there is no shape, a size is unknown, shapes differ in more than the batch, or types do not fit; the
            model does not accept the input.
        TypeError: a value is not a shape or type; the arguments are in the wrong order.

    >>> params, apply_fn = jaxconv.Conv1D(4, 3).init(jax.random.key(0), (None, 10, 2))
    >>> fast = compile(apply_fn, params, [(1, 10, 2), (8, 10, 2)])
    >>> fast(np.ones((5, 10, 2))).shape, fast(np.ones((20, 10, 2))).shape
    ((5, 8, 4), (20, 8, 4))
    """
    apply_fn = read_function(apply_fn, params, "compile(apply_fn, params, input_shapes)")
    name = getattr(apply_fn, "__name__", type(apply_fn).__name__)
    shapes = sorted((_read(apply_fn, shape) for shape in _several(input_shapes)), key=_batch_size)
    if not shapes:
        raise ValueError(f"{name}: input_shapes is empty; give one like (1, 48, 48, 1)")
    samples = {str(map_shapes(lambda one: one[1:], shape)) for shape in shapes}
    if len(samples) > 1 or len({_batch_size(shape) for shape in shapes}) < len(shapes):
        raise ValueError(f"{name}: input_shapes {shapes} must differ in the batch size, and only in it")
    dtypes = resolve_dtypes(apply_fn, shapes[0], dtype)
    executables = []
    for shape in shapes:
        run = jax.jit(apply_fn).lower(params, map_shapes(jax.ShapeDtypeStruct, shape, dtypes)).compile()
        jax.block_until_ready(run(params, map_shapes(np.zeros, shape, dtypes)))
        executables.append((_batch_size(shape), run))
    return Compiled(name, tuple(shapes), dtypes, params, tuple(executables))


def _placed(x: Any, run: Any) -> Any:
    """Return the input with its JAX arrays on the devices of a compiled program, which are those of its parameters."""
    leaves, tree = jax.tree.flatten(x)
    devices = jax.tree.leaves(run.input_shardings[0][1], is_leaf=lambda device: device is None)
    placed = (jax.device_put(v, d) if isinstance(v, jax.Array) else v for v, d in zip(leaves, devices, strict=True))
    return jax.tree.unflatten(tree, placed)


def _padded(one: Any, size: int) -> Any:
    """Return an array with rows of zeros added."""
    pad = jnp.pad if isinstance(one, jax.Array) else np.pad
    return pad(one, [(0, size - one.shape[0])] + [(0, 0)] * (one.ndim - 1))


def _several(shapes: Any) -> Sequence[Any]:
    """Return a list of input shapes, given one or several: a tuple of sizes is one shape, and so is a dict."""
    if isinstance(shapes, Mapping) or (is_shape(shapes) and shapes):
        return [shapes]
    if not isinstance(shapes, list | tuple):
        raise TypeError(f"input_shapes={shapes!r} is not a shape or a list of shapes; give one like (1, 48, 48, 1)")
    return shapes


def _read(apply_fn: Any, shape: Any) -> Any:
    with explain(f"input_shapes, one for each batch size: {shape}"):
        shapes = read_input_shape(apply_fn, shape)
    for one in jax.tree.leaves(shapes, is_leaf=is_shape):
        if None in one or one[0] < 1 or min(one) < 0:
            raise ValueError(f"input_shapes: {one} is not valid; give whole numbers, and a batch of at least 1")
    return shapes


def _batch_size(shape: Any) -> int:
    return jax.tree.leaves(shape, is_leaf=is_shape)[0][0]
