"""Function: a plain function of arrays as a layer. It cannot be saved, because a config cannot contain code."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxconv.contract import POINTWISE, Effects, Layer, Params, Window, whole
from jaxconv.errors import explain

_SIZES = (83, 97)  # two values of an unknown size: what differs between the results depends on it


@dataclasses.dataclass(frozen=True)
class Function(Layer):
    """Apply a function of arrays, such as ``lambda x: x**2``, or of a list of arrays: Keras's ``Lambda``.

    The function is called with the batch and must compute each example independently. Its output shape is determined by
    tracing. Unless ``pointwise``, each output is assumed to read every axis entirely: then a mask ends here, with a
    warning, the layer cannot be streamed, and receptive fields are unknown. Masked steps are 0 when the function is
    called.

    A function is equal only to itself: define it once, not in each call of a step, or ``jit`` compiles each time.

    Args:
        function: (array) -> array, or (list of arrays) -> array for a layer that is called on a list.
        pointwise: whether each output depends only on the input at the same position. Masks then pass through, and the
            layer can be streamed.

    Shapes: those of the function; the batch is the first axis of its input and output.

    Raises:
        TypeError: the argument is not a function. ValueError: a function that does not keep the batch, or is declared
            pointwise and changes the shape; ``get_config`` and ``save_model``, because code is not written to files.

    >>> layer = Function(lambda x: x[:, ::-1] ** 2, name="reversed_square")
    >>> params, apply_fn = layer.init(jax.random.key(0), (None, 3))
    >>> apply_fn(params, jnp.array([[1.0, 2.0, 3.0]]))
    Array([[9., 4., 1.]], dtype=float32)
    """

    function: Any
    pointwise: bool = False

    output_values: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.function) or hasattr(self.function, "init_params"):
            raise TypeError(f"Function: {self.function!r} is not a function of arrays; give one like lambda x: x**2")

    def read_shape(self, input_shape: Any) -> Any:
        if isinstance(input_shape, list | tuple) and input_shape and hasattr(input_shape[0], "__len__"):
            return [super(Function, self).read_shape(one) for one in input_shape]
        return super().read_shape(input_shape)

    def output_shape(self, input_shape: Any) -> Any:
        # from the function itself: the windows follow from it
        shape = self.read_shape(input_shape)
        first, second = (self._trace(shape, size) for size in _SIZES)
        inputs = shape if isinstance(shape, list) else [shape]
        batches = _SIZES if inputs[0][0] is None else inputs[0][:1] * 2
        if not first or len(first) != len(second) or (first[0], second[0]) != batches:
            raise ValueError(f"{self.label}: the function returned shape {first} for {inputs}; it must keep the batch")
        out = tuple(a if a == b else None for a, b in zip(first, second, strict=True))
        if self.pointwise and any(out != one for one in inputs):
            what = f"the function returned shape {out} for {inputs}"
            raise ValueError(f"{self.label}: {what}; with pointwise=True it must keep the shape")
        return out

    def _trace(self, shape: Any, size: int) -> tuple:
        def array(one: tuple) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(tuple(size if n is None else n for n in one), self.input_dtype(jnp.int32))

        given = [array(one) for one in shape] if isinstance(shape, list) else array(shape)
        with explain(f"{self.label}: the function, for input of shape {shape}"):
            return tuple(jax.eval_shape(self.function, given).shape)

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        out = self.output_shape(input_shape)[1:]
        return (POINTWISE,) * len(out) if self.pointwise else tuple(map(whole, out))

    def _input(self, x: Any) -> Any:
        return [super(Function, self)._input(one) for one in x] if isinstance(x, list | tuple) else super()._input(x)

    def read_mask(self, mask: Any, shape: Any) -> Any:
        if not isinstance(shape, list):
            return super().read_mask(mask, shape)
        masks = [None if one is None else super(Function, self).read_mask(one, s) for one, s in zip(mask or [], shape)]  # noqa: B905
        return masks if any(one is not None for one in masks) else None

    def output_mask(self, x: Any, mask: Any) -> Any:
        if isinstance(x, list):
            return next((one for one in mask or [] if one is not None), None) if self.pointwise else None
        return super().output_mask(x, mask)

    def call(self, params: Params, x: Any, *, train: bool, key: Any, mask: Any) -> tuple[Any, Effects]:
        return self.function(x), Effects()

    def get_config(self) -> dict[str, Any]:
        what = f"{self.label}: a function is code, which is not written to a config or a file"
        raise ValueError(f"{what}; make it a layer class with @register(layers), or use save_params for params only")
