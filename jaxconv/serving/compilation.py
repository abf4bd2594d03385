"""A model compiled ahead of time for a few batch sizes; what comes between is padded, what is beyond is cut.

Knows models as functions of (params, x).
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Compiled:
    """A model ready to run: ``y = compiled(x)``, for any number of samples, without compiling anything.

    A batch of a size that was compiled for runs as it is. Others are filled up with zeros to the next larger size, and
    the rows for them are cut off; more samples than the largest size run in several batches of that size.

    name: of the model. shapes: what it was compiled for, smallest batch first. dtype: the type of the input.
    """

    name: str
    shapes: tuple[Any, ...]
    dtype: Any
    _params: Any = dataclasses.field(repr=False)
    _executables: tuple[tuple[int, Callable], ...] = dataclasses.field(repr=False)

    def __call__(self, x: Any) -> Any:
        """Compute the output.

        Raises:
            ValueError: an input of another shape than was compiled for, but for the batch.
            TypeError: an input that is complex, or no array of numbers.
        """
        x = jax.tree.map(self._as_input, x)
        number = self._batch(x)
        for size, run in self._executables:
            if number == size:
                return run(self._params, x)
            if number < size:
                y = run(self._params, jax.tree.map(lambda one: _filled(one, size), x))  # noqa: B023
                return jax.tree.map(lambda one: one[:number], y)
        size = self._executables[-1][0]
        parts = [self(jax.tree.map(lambda one: one[at : at + size], x)) for at in range(0, number, size)]  # noqa: B023
        return jax.tree.map(lambda *ys: jnp.concatenate(ys), *parts)

    def _as_input(self, one: Any) -> Any:
        given = getattr(one, "dtype", None)
        if given == self.dtype:
            return one
        array = np.asarray(one)
        if array.dtype.kind not in "biuf" and not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(f"{self.name}: the input is of type {array.dtype}; it was compiled for {self.dtype}")
        return array.astype(self.dtype)

    def _batch(self, x: Any) -> int:
        """Give the number of samples, after checking everything else."""
        shapes, tree = jax.tree.flatten(jax.tree.map(np.shape, x), is_leaf=_is_shape)
        wanted, wanted_tree = jax.tree.flatten(self.shapes[0], is_leaf=_is_shape)
        rows = {shape[:1] for shape in shapes}
        if (
            repr(tree) != repr(wanted_tree)
            or len(rows) != 1
            or () in rows
            or [s[1:] for s in shapes] != [s[1:] for s in wanted]
        ):
            got = shapes[0] if len(shapes) == 1 else shapes
            told = " or ".join(str(shape) for shape in self.shapes)
            raise ValueError(f"{self.name}: got input of shape {got}; it was compiled for {told}, any batch")
        return shapes[0][0]


def compile(apply_fn: Any, params: Any, input_shapes: Any, *, dtype: Any = "float32") -> Compiled:
    """Compile a model for inference, now, for a few batch sizes; the result runs for all.

    Each size is run once, too, so that the first call is as quick as the later ones. The rows of a batch must not
    depend on each other, which is so for every layer here at inference.

    Args:
        apply_fn: what ``layer.init`` gave, or any function of (params, x).
        params: its weights. They stay where they are; change nothing in place.
        input_shapes: a shape with batch first, or a list of such shapes that differ in the batch; for several inputs,
            a list of lists or dicts of shapes.
        dtype: the type that the input is brought to. The layers cast it as their policy says.

    Raises:
        ValueError: no shape, a size that is unknown, shapes that differ beyond the batch; an input the model refuses.
        TypeError: shapes that are none.

    >>> params, apply_fn = jaxconv.Conv1D(4, 3).init(jax.random.key(0), (None, 10, 2))
    >>> fast = compile(apply_fn, params, [(1, 10, 2), (8, 10, 2)])
    >>> fast(np.ones((5, 10, 2))).shape, fast(np.ones((20, 10, 2))).shape
    ((5, 8, 4), (20, 8, 4))
    """
    name = getattr(apply_fn, "__name__", type(apply_fn).__name__)
    shapes = sorted((_read(shape) for shape in _several(input_shapes)), key=_rows)
    if not shapes:
        raise ValueError(f"{name}: input_shapes is empty; give one like (1, 48, 48, 1)")
    if len({str(_without_batch(shape)) for shape in shapes}) > 1 or len({_rows(s) for s in shapes}) < len(shapes):
        raise ValueError(f"{name}: input_shapes {shapes} have to differ in the batch, and in nothing else")
    kind = jnp.dtype(dtype)
    executables = []
    for shape in shapes:
        specs = jax.tree.map(lambda one: jax.ShapeDtypeStruct(one, kind), shape, is_leaf=_is_shape)
        run = jax.jit(apply_fn).lower(params, specs).compile()
        zeros = jax.tree.map(lambda one: np.zeros(one, kind), shape, is_leaf=_is_shape)
        jax.block_until_ready(run(params, zeros))
        executables.append((_rows(shape), run))
    return Compiled(name, tuple(shapes), kind, params, tuple(executables))


def _filled(one: Any, size: int) -> Any:
    """Fill an array up with rows of zeros."""
    if isinstance(one, jax.Array):
        return jnp.pad(one, [(0, size - one.shape[0])] + [(0, 0)] * (one.ndim - 1))
    filled = np.zeros((size, *one.shape[1:]), one.dtype)
    filled[: len(one)] = one
    return filled


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple) and all(hasattr(size, "__index__") or size is None for size in value)


def _several(shapes: Any) -> Sequence[Any]:
    """Give a list of input shapes from one or several: a tuple of numbers is one, so is a dict."""
    if isinstance(shapes, Mapping) or (_is_shape(shapes) and shapes):
        return [shapes]
    if not isinstance(shapes, list | tuple):
        raise TypeError(f"input_shapes={shapes!r} is no shape and no list of shapes; give one like (1, 48, 48, 1)")
    return shapes


def _read(shape: Any) -> Any:
    """Read one input shape, or the structure of several."""
    if isinstance(shape, Mapping):
        return {key: _read(one) for key, one in shape.items()}
    if isinstance(shape, list | tuple) and shape and not any(hasattr(one, "__index__") or one is None for one in shape):
        return [_read(one) for one in shape]
    if not isinstance(shape, list | tuple) or not shape:
        raise TypeError(f"input_shapes: {shape!r} is no shape; give one like (1, 48, 48, 1)")
    if not all(hasattr(size, "__index__") and size >= 0 for size in shape) or shape[0] == 0:
        raise ValueError(f"input_shapes: {shape} is not known in full; give whole numbers, a batch of at least 1")
    return tuple(size.__index__() for size in shape)


def _rows(shape: Any) -> int:
    return jax.tree.leaves(shape, is_leaf=_is_shape)[0][0]


def _without_batch(shape: Any) -> Any:
    return jax.tree.map(lambda one: one[1:], shape, is_leaf=_is_shape)
