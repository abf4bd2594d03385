"""``accelerate``: compile all convolutions of ``jax.lax`` by the lowerings of this package.

JAX derives everything from one primitive: the gradient in the input is a convolution of a dilated input; the gradient
in the kernel is a convolution with batch and channels exchanged and a kernel as large as the output, and with groups it
has a ``batch_group_count``. :func:`as_map` finds the map that each convolution is.
"""

import contextvars
import functools
import math
import threading
import warnings
from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.interpreters import mlir
from jax.sharding import AxisType

from jaxconv.errors import caller_level
from jaxconv.geometry import Geometry, dilate
from jaxconv.kernels import choice, tuning_cache
from jaxconv.kernels.general import MAX_RANK
from jaxconv.kernels.xla_convolution import keep_rules, tracing_a_lowering

PARAMETERS = {
    "window_strides", "padding", "lhs_dilation", "rhs_dilation", "dimension_numbers", "feature_group_count",
    "batch_group_count", "precision", "preferred_element_type", "out_sharding",
}  # fmt: skip

_lock = threading.Lock()
_is_installed = False
_process: list[object] = []  # the calls that apply to the whole process
# set inside "with accelerate(...)", for this thread; not part of jit's cache key, so that programs compiled inside are
# used outside too
_inside: contextvars.ContextVar[bool | None] = contextvars.ContextVar("inside", default=None)


class accelerate:
    """Compile the convolutions of every JAX library by jaxconv's lowerings on CPU.

    ``jaxconv.accelerate()`` applies to the whole process until ``jaxconv.accelerate(False)``. ``with
    jaxconv.accelerate():`` applies to the programs that this thread compiles inside the block, regardless of where they
    run later. Flax, Equinox, Haiku, Keras on JAX and plain ``jax.lax`` code need no change.
    ``jax.lax.conv_general_dilated`` and all its derivatives are compiled like jaxconv's own convolutions: by the
    lowering that ``jaxconv tune`` measured, or else by the table's choice. The sums are computed in another order, so
    values differ by rounding.

    Functions that are already compiled are not changed; ``jax.clear_caches()`` drops them. Programs for GPU and TPU,
    exports for several platforms, programs that ``jit`` partitions over several devices, integers, symbolic sizes, and
    shapes that the table leaves to XLA are compiled as without it. If the convolution of the installed JAX has other
    parameters, nothing is changed, and a warning is issued.

    Args:
        enabled: False to compile by XLA's own convolution again.

    Raises:
        TypeError: if ``enabled`` is not a boolean, for example if it is a function.

    >>> x, w = jnp.ones((1, 4, 8, 8)), jnp.ones((4, 1, 3, 3))
    >>> convolve = lambda: jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", feature_group_count=4)
    >>> with jaxconv.accelerate():
    ...     y = jax.jit(convolve)()
    >>> bool(jnp.allclose(y, convolve()))
    True
    """

    def __init__(self, enabled: bool = True) -> None:
        if not isinstance(enabled, bool):
            raise TypeError(
                f"accelerate: enabled={enabled!r} is not True or False; call jaxconv.accelerate() without arguments "
                "before the function is compiled"
            )
        self.enabled = enabled
        with _lock:
            if not enabled:
                self.ended = list(_process)
                _process.clear()
            elif _install():
                _process.append(self)

    def __enter__(self) -> None:
        with _lock:  # the call does not apply to the whole process
            if self in _process:
                _process.remove(self)
            if not self.enabled:
                _process.extend(self.ended)
        self.token = _inside.set(self.enabled)

    def __exit__(self, *error: Any) -> None:
        _inside.reset(self.token)


def is_accelerated() -> bool:
    """Return whether convolutions that this thread compiles now are replaced."""
    inside = _inside.get()
    return _is_installed and (bool(_process) if inside is None else inside)


def _install() -> bool:
    """Replace the rule that compiles a convolution for CPU, once; return whether the installed JAX allows it."""
    global _is_installed
    if _is_installed:
        return True
    example = jax.ShapeDtypeStruct((1, 1, 1), "float32")
    (equation,) = jax.make_jaxpr(lambda x: lax.conv_general_dilated(x, x, (1,), "SAME"))(example).eqns
    general = _rule_of_xla()
    if equation.primitive is not lax.conv_general_dilated_p or set(equation.params) != PARAMETERS or general is None:
        warnings.warn(
            f"jaxconv.accelerate does not support the convolution of jax {jax.__version__}; XLA's own is used",
            stacklevel=caller_level(),
        )
        return False
    expanding = functools.partial(general, expand_complex_convolutions=True)
    keep_rules({None: general, "cpu": expanding, "gpu": expanding})
    mlir.register_lowering(lax.conv_general_dilated_p, functools.partial(_lower, expanding), platform="cpu")
    _is_installed = True
    return True


def _rule_of_xla() -> Callable[..., Any] | None:
    """Return JAX's lowering rule of the convolution, the only private name used here, or None if it is missing."""
    try:
        from jax._src.lax.convolution import _conv_general_dilated_lower
    except ImportError:
        return None
    return _conv_general_dilated_lower


def _lower(xla_rule: Callable[..., Any], context: Any, *operands: Any, **params: Any) -> Any:
    """Compile one convolution for CPU."""
    if not is_accelerated() or set(params) != PARAMETERS or not _is_local(context, params):
        return xla_rule(context, *operands, **params)
    request = as_map(*context.avals_in, **params)
    if request is None:
        return xla_rule(context, *operands, **params)
    name, geometry = request
    winners = tuning_cache.winners("cpu")
    options = {"platform": "cpu", "winners": winners, "precision": params["precision"]}
    if choice.choose(name, geometry, *context.avals_in, **options).lowering == "xla":
        return xla_rule(context, *operands, **params)
    compute = functools.partial(
        choice.compute, name, geometry=geometry, dtype=context.avals_out[0].dtype, lowering=None, **options
    )
    with tracing_a_lowering():
        return mlir.lower_fun(compute, multiple_results=False)(context, *operands)


def _is_local(context: Any, params: dict[str, Any]) -> bool:
    """Return whether a program is only for CPU, and its arrays are on one device, so that XLA partitions nothing."""
    module, axes = context.module_context, context.module_context.axis_context
    if tuple(module.platforms) != ("cpu",) or params["out_sharding"] is not None:
        return False
    if any(AxisType.Explicit in aval.sharding.mesh.axis_types for aval in context.avals_in):
        return False
    mesh = getattr(axes, "mesh", None)  # inside shard_map, whose manual axes are already split
    return getattr(axes, "num_devices", 1) == 1 if mesh is None else set(mesh.axis_names) == set(axes.manual_axes)


def as_map(
    lhs: Any, rhs: Any, *, window_strides: Any, padding: Any, lhs_dilation: Any, rhs_dilation: Any,
    dimension_numbers: Any, feature_group_count: int, batch_group_count: int, **_: Any,
) -> tuple[str, Geometry] | None:  # fmt: skip
    """Return the map and the geometry of a convolution of ``jax.lax``. Its operands keep their order.

    Args:
        lhs, rhs: arrays or avals; the other arguments are the parameters of JAX's primitive.

    Returns:
        ``"convolve"``, which includes the gradient in the input (:func:`jaxconv.kernels.problem.standard_form` brings
        a dilated input to the transposed map), or ``"correlate"`` for a kernel gradient; None if it is neither:
        more than three spatial axes or none, symbolic lengths.
    """
    x_dims, w_dims, y_dims = dimension_numbers
    x_lengths, w_lengths = ([v.shape[axis] for axis in dims[2:]] for v, dims in ((lhs, x_dims), (rhs, w_dims)))
    if not 1 <= len(window_strides) <= MAX_RANK or not all(isinstance(n, int) for n in (*lhs.shape, *rhs.shape)):
        return None
    geometry = Geometry(
        tuple(x_lengths), tuple(w_lengths), tuple(window_strides), tuple((int(a), int(b)) for a, b in padding),
        tuple(lhs_dilation), tuple(rhs_dilation), feature_group_count, tuple(x_dims), tuple(w_dims), tuple(y_dims),
    )  # fmt: skip
    outputs = geometry.y_lengths
    # JAX's kernel gradient: the batch axis is not the first one, and the "kernel" is the gradient of the output
    is_exchanged = x_dims[0] != 0 and feature_group_count == 1 and math.prod(w_lengths) >= math.prod(outputs)
    if batch_group_count == 1 and not is_exchanged:
        return "convolve", geometry
    pads = tuple(
        (low, (o - 1) * s + dilate(k, d) - dilate(n, b) - low)
        for n, b, o, s, k, d, (low, _) in zip(
            x_lengths, lhs_dilation, w_lengths, rhs_dilation, outputs, window_strides, padding, strict=True
        )
    )
    exchange = [(dims[1], dims[0], *dims[2:]) for dims in (x_dims, y_dims, w_dims)]
    return "correlate", Geometry(
        tuple(x_lengths), outputs, tuple(rhs_dilation), pads, tuple(lhs_dilation), tuple(window_strides),
        batch_group_count, *exchange,
    )  # fmt: skip
