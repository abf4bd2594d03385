"""The convolutions that a function computes, each once, with a program for every lowering that supports it."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv.geometry import Geometry
from jaxconv.kernels import choice, maps
from jaxconv.kernels.jaxpr import equations
from jaxconv.kernels.lowerings import LOWERINGS
from jaxconv.kernels.split import padded

Run = Callable[[], object]  # computes once and waits for the result
NAMES = {primitive: name for name, primitive in maps.PRIMITIVES.items()}
# the temporaries that a winner may need: a multiple of its operands and result, or this many bytes
MAX_TEMPORARY, SMALL = 3, 2**24


class Convolution(NamedTuple):
    """One of the three maps, with the shapes and dtypes of its operands.

    name: "convolve", "transpose" or "correlate". key: the key of its winner in the cache. params: the parameters of
    the primitive.
    """

    name: str
    key: str
    a: jax.ShapeDtypeStruct
    b: jax.ShapeDtypeStruct
    params: dict[str, Any]

    @property
    def geometry(self) -> Geometry:
        return self.params["geometry"]

    def default(self, platform: str) -> str:
        """Return the lowering that is chosen without a measurement."""
        precision = self.params["precision"]
        return choice.choose(self.name, self.geometry, self.a, self.b, platform=platform, precision=precision).lowering

    def supported(self) -> list[str]:
        """List the lowerings that can compute it and may be used without a request."""
        names = choice.supported(self.name, self.geometry, self.a, self.b, self.params["precision"])
        return [name for name in names if LOWERINGS[name].by_default]

    def operands(self) -> tuple[jax.Array, jax.Array]:
        """Draw random operands, because products of zeros or of equal numbers may be faster."""
        rng = np.random.default_rng(0)
        a, b = (jnp.asarray(rng.standard_normal(v.shape, np.float32)).astype(v.dtype) for v in (self.a, self.b))
        return a, b

    def program(self, lowering: str, platform: str, operands: tuple, memory_limit: bool = False) -> Run | None:
        """Compile one lowering for these operands; with ``memory_limit``, return None if it needs much memory."""
        params = {**self.params, "lowering": lowering}
        compute = functools.partial(choice.compute, self.name, platform=platform, **params)
        compiled = jax.jit(compute).lower(self.a, self.b).compile()
        memory = compiled.memory_analysis()
        if memory_limit and memory is not None:
            needed = memory.argument_size_in_bytes + memory.output_size_in_bytes
            if memory.temp_size_in_bytes > max(MAX_TEMPORARY * needed, SMALL):
                return None
        return lambda: compiled(*operands).block_until_ready()

    def __str__(self) -> str:
        """Return its sizes: ``32x150x8 to 150x16, k5 s2 d2 g4 float32``, of batch, axes and channels."""
        g = self.geometry
        n, c = self._size("x", 0), self._size("x", 1)
        letters = maps.SIGNATURES[self.name]
        f = self._size("w", 0) if "w" in letters[:2] else self._size("y", 1)
        text = f"{_by((n, *g.x_lengths, c))} to {_by((*g.y_lengths, f))}, k{_by(g.w_lengths)}"
        for letter, sizes in (("s", g.strides), ("i", g.lhs_dilation), ("d", g.rhs_dilation)):
            if max(sizes) > 1:
                text += f" {letter}{_by(sizes)}"
        return f"{text}{f' g{g.groups}' if g.groups > 1 else ''} {self.a.dtype}"

    def _size(self, letter: str, index: int) -> int:
        """Return batch (0) or channels (1) of x, filters (0) of w, filters (1) of y, derived from the operands."""
        g, (first, second, _) = self.geometry, maps.SIGNATURES[self.name]
        operands = {first: self.a, second: self.b}
        if letter in operands:
            return operands[letter].shape[{"x": g.x_dims, "w": g.w_dims, "y": g.y_dims}[letter][index]]
        # x is the result: its batch is that of y, its channels are those of the kernel times the groups
        return self._size("y", 0) if index == 0 else self._size("w", 1) * g.groups


def _by(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))


def convolutions(function: Callable[..., Any], *arguments: Any) -> list[Convolution]:
    """List the convolutions that a call computes and that have more than one lowering, each once.

    Those inside loops, branches and called functions are included; those with a requested lowering are not. The
    arguments may be ``jax.ShapeDtypeStruct``.

    >>> x, w = jax.ShapeDtypeStruct((1, 8, 2), "float32"), jax.ShapeDtypeStruct((3, 2, 4), "float32")
    >>> [str(one) for one in convolutions(lambda x, w: jnp.sum(jaxconv.conv1d(x, w) ** 2), x, w)]
    ['1x8x2 to 6x4, k3 float32']
    """
    found: dict[str, Convolution] = {}
    for equation in equations(jax.make_jaxpr(function)(*arguments).jaxpr):
        params = dict(equation.params)
        if equation.primitive not in NAMES or params["lowering"] is not None:
            continue
        a, b = (jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in equation.invars)
        name = NAMES[equation.primitive]
        if params.pop("mode", "zeros") != "zeros":  # a lowering sees the padded x
            geometry = params["geometry"] = padded(params["geometry"])
            lengths = dict(zip(geometry.x_dims[2:], geometry.x_lengths, strict=True))
            if maps.SIGNATURES[name][0] == "x":
                a = jax.ShapeDtypeStruct([lengths.get(axis, n) for axis, n in enumerate(a.shape)], a.dtype)
        key = choice.key(name, params["geometry"], a, b)
        if key is not None:
            found.setdefault(key, Convolution(name, key, a, b, params))
    return [one for one in found.values() if len(one.supported()) > 1]
