"""``Apply``: the functions of a layer over its params; ``Effects``: the other results of a call; and ``merge``."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxconv.errors import explain
from jaxconv.registry import nearest

Params = dict[str, Any]
AnyLayer = TypeVar("AnyLayer")


class Effects(NamedTuple):
    """The results of a forward pass in addition to its output.

    A layer's ``call`` returns one as well, and sets only the fields that it changes.

    fixed: new values of the leaves that the optimizer does not update, in the structure of ``split(params)[1]``.
    penalty: scalar, the sum of the activity regularizers of this call, divided by the batch size.
    mask: True at each unmasked step of the output, (batch, time), or None if there is no mask. With several outputs,
        masks in the structure of the outputs.

    >>> _, apply_fn = jaxconv.Flatten().init(jax.random.key(0), (None, 3))
    >>> y, effects = apply_fn.forward({}, jnp.ones((1, 3)))
    >>> effects
    Effects(fixed={}, penalty=Array(0., dtype=float32), mask=None)
    """

    fixed: Params = {}  # noqa: RUF012  never written to
    penalty: Any = 0.0
    mask: Any = None


@jax.tree_util.register_static  # so that init can be jitted, and an apply_fn passed through jit
@dataclasses.dataclass(frozen=True, repr=False)
class Apply:
    """The functions of one layer over its params. Equal, with equal hashes, for equal layers; contains no arrays.

    Calling it is inference: ``y = apply_fn(params, x)``, one array; a Model with several outputs returns them in the
    structure that it was built with. The other functions are its attributes.

    >>> params, apply_fn = jaxconv.Dense(2, kernel_constraint="max_norm").init(jax.random.key(0), (None, 3))
    >>> trainable, fixed = apply_fn.split(params)
    >>> params = apply_fn.project(merge(trainable, fixed))
    >>> jax.jit(apply_fn)(params, jnp.ones((1, 3))).shape
    (1, 2)
    """

    layer: Any

    @property
    def __name__(self) -> str:
        return self.layer.label

    def __repr__(self) -> str:
        return f"<apply_fn of {self.layer!r}>"

    def _repr_html_(self) -> str:
        return self.layer._repr_html_()

    def __call__(self, params: Params, x: Any, mask: Any = None, **unknown: Any) -> Array:
        """Compute the output of the layer at inference. Values at masked steps are unspecified."""
        if unknown:
            what = f"apply_fn(params, x) is inference, and has no argument {next(iter(unknown))!r}"
            remedy = "for training: y, effects = apply_fn.forward(params, x, train=True, key=key)"
            raise TypeError(f"{self.layer.label}: {what}; {remedy}")
        return self.layer.forward(params, x, train=False, key=None, mask=mask)[0]

    def forward(
        self, params: Params, x: Any, *, train: bool = False, key: Any = None, mask: Any = None, **unknown: Any
    ) -> tuple[Array, Effects]:
        """Compute the output and the effects of a call.

        Args:
            params, x: as for inference.
            train: whether this is training: dropout drops, statistics move.
            key: a JAX PRNG key, required in training if the layer draws random numbers.
            mask: True at each unmasked step of ``x``, (batch, time); with several inputs, masks in their structure,
                with None for an input without a mask. Masked steps contribute nothing; the output's mask is
                ``effects.mask``.

        Raises:
            ValueError: training without a ``key`` if one is needed; an input or a mask that does not fit.
            TypeError: ``train`` is not a bool; ``key`` is not a PRNG key; an unknown argument.
        """
        if unknown:
            hint = nearest(next(iter(unknown)), ("train", "key", "mask"))
            raise TypeError(f"{self.layer.label}: forward has no argument {next(iter(unknown))!r}; {hint}")
        if not isinstance(train, bool | np.bool_ | jax.Array):
            raise TypeError(f"{self.layer.label}: train={train!r} is not a bool; give True or False")
        return self.layer.forward(params, x, train=train, key=key, mask=mask)

    def split(self, params: Params) -> tuple[Params, Params]:
        """Split into (trainable, fixed): both have the structure of ``params``, with None for the leaves of the other.

        Raises (as do ``penalty`` and ``project``):
            ValueError: params of another layer; the message names the first difference.
        """
        self.layer.check_names(params)
        return self.layer.select(params, fixed=False), self.layer.select(params, fixed=True)

    def penalty(self, params: Params) -> Array:
        """Sum the regularizers of all trainable weights: a scalar, float32 or wider."""
        self.layer.check_names(params)
        return self.layer.penalty(params)

    def project(self, params: Params) -> Params:
        """Apply the constraints. Call this on the result of ``optax.apply_updates``."""
        self.layer.check_names(params)
        return self.layer.project(params)


def merge(trainable: Params, fixed: Params) -> Params:
    """Join the two parts that ``Apply.split`` returns.

    Args:
        trainable, fixed: the same structure, with None in each for the leaves of the other.

    Raises:
        ValueError: parts with different names, or a leaf that both parts have.

    >>> merge({"kernel": 1, "mean": None}, {"kernel": None, "mean": 2})
    {'kernel': 1, 'mean': 2}
    """
    if not isinstance(trainable, Mapping) and not isinstance(fixed, Mapping):
        if trainable is not None and fixed is not None:
            raise ValueError("merge: both parts have this leaf; give the two parts of one split, not all params")
        return fixed if trainable is None else trainable
    names = [sorted(part) if isinstance(part, Mapping) else type(part).__name__ for part in (trainable, fixed)]
    if names[0] != names[1]:
        what = f"the two parts have different names: {names[0]} and {names[1]}"
        raise ValueError(f"merge: {what}; give the two parts of one split")
    merged = {}
    for name in trainable:
        with explain(name):
            merged[name] = merge(trainable[name], fixed[name])
    return merged


def as_layer(value: AnyLayer | Apply, call: str, params: Any = MappingProxyType({})) -> AnyLayer:
    """Return the layer itself, or that of an ``apply_fn``. Raises TypeError otherwise, with ``call`` as the usage."""
    layer: Any = value.layer if isinstance(value, Apply) else value
    if isinstance(layer, type) or not hasattr(layer, "init_params"):
        raise TypeError(f"{call}: layer is of type {type(value).__name__}; give a layer or its apply_fn, in this order")
    if not isinstance(params, Mapping):
        raise TypeError(f"{call}: params {describe_params(params)}")
    return layer


def describe_params(params: Any) -> str:
    """Describe a value that was given as params, for a message."""
    if isinstance(params, Mapping):
        return f"has {sorted(params)}"
    got = f"an array of shape {params.shape}" if hasattr(params, "shape") else f"of type {type(params).__name__}"
    return f"is {got}, not a dict: unpack what init returns, and call apply_fn(params, x)"


def check_key(key: Any, where: str) -> None:
    """Raise TypeError unless ``key`` is a PRNG key, typed or raw."""
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    typed = dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key) and shape == ()
    raw = dtype == jnp.uint32 and shape is not None and len(shape) == 1
    if not (typed or raw):
        got = repr(key) if shape is None else f"an array of shape {shape} and type {dtype}"
        raise TypeError(f"{where}: the key is {got}, which is not a PRNG key; give jax.random.key(0)")
