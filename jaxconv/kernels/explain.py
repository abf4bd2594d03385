"""``explain_lowering``: the lowering of each of the three maps of a convolution, the reason, and the cost.

The computation is traced, but not run.
"""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
from jax.extend.core import jaxprs_in_params

from jaxconv.kernels import choice, general, maps, tuning_cache
from jaxconv.kernels.jaxpr import equations as _equations
from jaxconv.kernels.lowering import SCOPE

NAMES = {"convolve": "forward", "transpose": "input gradient", "correlate": "kernel gradient"}


class Lowered(NamedTuple):
    """The computation of one map.

    map: ``"convolve"``, ``"transpose"`` (the gradient of the input) or ``"correlate"`` (that of the kernel).
    lowering: the name; ``"polyphase > xla_nhwc"`` means that the parts of one are computed by another.
    reason: the measurement or the request that decided the choice.
    supported: the names of all lowerings that can compute this map.
    operations: additions and multiplications of the definition, including taps on padding.
    operands: bytes of the two operands and the result. largest: bytes of the largest temporary.
    """

    map: str
    lowering: str
    reason: str
    supported: tuple[str, ...]
    operations: int
    operands: int
    largest: int


class Explanation(tuple[Lowered, ...]):
    """The three maps of one convolution; its ``repr`` has two lines for each."""

    def __repr__(self) -> str:
        lines = []
        for how in self:
            cost = f"{_count(how.operations)}FLOP, operands and result {_count(how.operands)}B"
            cost += f", largest temporary {_count(how.largest)}B"
            lines += [f"{NAMES[how.map]:15} {how.lowering}   ({cost})", f"{'':15} {how.reason}"]
        return "\n".join(lines)


def explain_lowering(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    *arguments: Any,
    platform: str | None = None,
    **options: Any,
) -> Explanation:
    """Explain how a convolution and its two gradients are computed, and why.

    It takes the arguments of :func:`conv_general_dilated`, whose arrays may be ``jax.ShapeDtypeStruct``, and follows
    ``with jaxconv.lowering(name)``. Nothing is run or compiled.

    Args:
        platform: ``"cpu"``, ``"cuda"`` or ``"tpu"``; by default that of JAX's default device.

    Returns:
        Three :class:`Lowered` records, which print as a table.

    Raises:
        ValueError: as in ``conv_general_dilated``.
        TypeError: if the convolution is passed to ``jax.lax``: more than three spatial axes, batch groups.

    >>> x, w = jax.ShapeDtypeStruct((8, 128, 64), "float32"), jax.ShapeDtypeStruct((3, 1, 64), "float32")
    >>> numbers = ("NWC", "WIO", "NWC")
    >>> how = jaxconv.explain_lowering(x, w, (1,), "SAME", None, None, numbers, 64, platform="cpu")
    >>> [lowered.lowering for lowered in how]
    ['shift_add', 'shift_add', 'shift_add']
    """
    platform = jax.default_backend() if platform is None else platform
    x, w = (jax.ShapeDtypeStruct(jax.numpy.shape(v), jax.dtypes.result_type(v)) for v in (lhs, rhs))

    def call(x: Any, w: Any) -> Any:
        return general.conv_general_dilated(x, w, window_strides, padding, *arguments, **options)

    outer = jax.make_jaxpr(call)(x, w).jaxpr.eqns
    ours = next((e for e in outer if e.primitive is maps.PRIMITIVES["convolve"]), None)
    if ours is None:
        raise TypeError("explain_lowering: this convolution is passed to jax.lax; there is nothing to choose")
    y = jax.ShapeDtypeStruct(ours.outvars[0].aval.shape, x.dtype)
    arrays = {"x": ours.invars[0].aval, "w": ours.invars[1].aval, "y": y}
    return Explanation(_lowered(name, arrays, ours.params, platform) for name in maps.SIGNATURES)


def _lowered(name: str, arrays: dict[str, Any], params: dict[str, Any], platform: str) -> Lowered:
    first, second, third = maps.SIGNATURES[name]
    a, b, geometry = arrays[first], arrays[second], params["geometry"]
    winners = tuning_cache.winners(platform)
    compute = partial(choice.compute, name, platform=platform, winners=winners, **params)
    jaxpr = jax.make_jaxpr(compute)(a, b).jaxpr
    options = {"override": params["lowering"], "precision": params["precision"]}
    chosen = choice.choose(name, geometry, a, b, platform=platform, winners=winners, **options)
    sizes = [_bytes(v.aval) for e in _equations(jaxpr) for v in e.outvars if v not in jaxpr.outvars]
    batch, filters = arrays["x"].shape[geometry.x_dims[0]], arrays["w"].shape[geometry.w_dims[0]]
    n = batch if isinstance(batch, int) else 1
    inner = math.prod(geometry.w_lengths) * arrays["w"].shape[geometry.w_dims[1]]
    operations = 2 * n * math.prod(geometry.y_lengths) * filters * inner
    operands = sum(_bytes(arrays[letter]) for letter in (first, second, third))
    supported = tuple(choice.supported(name, geometry, a, b, params["precision"]))
    return Lowered(name, _path(jaxpr), chosen.reason, supported, operations, operands, max(sizes, default=0))


def _path(jaxpr: Any) -> str:
    """Join the names of the lowerings that are nested most deeply, as the scopes of a traced computation show them."""
    deepest: tuple[str, ...] = max(_nested(jaxpr, ()), key=len)
    return " > ".join(deepest)


def _nested(jaxpr: Any, around: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the lowerings around each equation. The name stack of an inner equation begins at its loop or call."""
    for equation in jaxpr.eqns:
        scopes = str(equation.source_info.name_stack).split("/")
        names = (*around, *(scope.rpartition(".")[2] for scope in scopes if scope.startswith(SCOPE)))
        yield names
        for inner in jaxprs_in_params(equation.params):
            yield from _nested(inner, names)


def _bytes(aval: Any) -> int:
    """Return the size of an array; symbolic axes count as 1."""
    return math.prod(n for n in aval.shape if isinstance(n, int)) * jax.numpy.dtype(aval.dtype).itemsize


def _count(value: float) -> str:
    """Format a count with three digits and a prefix."""
    for prefix in ("", "k", "M", "G"):
        if value < 1000 or prefix == "G":
            return f"{value:.3g} {prefix}"
        value /= 1000
    raise AssertionError
