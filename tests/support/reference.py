"""The three bilinear maps in float64 numpy, from their definition: one product per kernel step and output step."""

import dataclasses

import numpy as np

from jaxconv.geometry import Geometry, dilate
from jaxconv.kernels.maps import SIGNATURES

EQUATIONS = {"convolve": "ngc,gcf->ngf", "transpose": "ngf,gcf->ngc", "correlate": "ngc,ngf->gcf"}


def split(array, letter, geometry):
    """Transpose x to (n, g, c, *spatial), w to (g, c, f, *spatial), or y to (n, g, f, *spatial)."""
    dims = {"x": geometry.x_dims, "w": geometry.w_dims, "y": geometry.y_dims}[letter]
    array = np.transpose(np.asarray(array, np.result_type(array.dtype, np.float64)), dims)
    if letter == "w":
        filters, channels, *spatial = array.shape
        return np.moveaxis(array.reshape(geometry.groups, filters // geometry.groups, channels, *spatial), 1, 2)
    batch, channels, *spatial = array.shape
    return array.reshape(batch, geometry.groups, channels // geometry.groups, *spatial)


def join(array, letter, geometry):
    """Return the inverse of :func:`split`."""
    dims = {"x": geometry.x_dims, "w": geometry.w_dims, "y": geometry.y_dims}[letter]
    if letter == "w":
        array = np.moveaxis(array, 2, 1)
        array = array.reshape(array.shape[0] * array.shape[1], *array.shape[2:])
    else:
        array = array.reshape(array.shape[0], array.shape[1] * array.shape[2], *array.shape[3:])
    return np.transpose(array, np.argsort(dims))


def evaluate(name, a, b, geometry: Geometry):
    """Compute one of the three maps of ``jaxconv.kernels`` from its definition."""
    first, second, third = SIGNATURES[name]
    a, b = split(np.asarray(a), first, geometry), split(np.asarray(b), second, geometry)
    lengths = {"x": geometry.x_lengths, "w": geometry.w_lengths, "y": geometry.y_lengths}
    equation = EQUATIONS[name]
    sizes = {
        **dict(zip(equation.split(",")[0], a.shape[:3], strict=True)),
        **dict(zip(equation[4:7], b.shape[:3], strict=True)),
    }
    out = np.zeros([*(sizes[i] for i in equation[-3:]), *lengths[third]], np.result_type(a, b))
    for tap in np.ndindex(*geometry.w_lengths):
        for step in np.ndindex(*geometry.y_lengths):
            dilated = [
                o * s + j * d - p[0]
                for o, s, j, d, p in zip(
                    step, geometry.strides, tap, geometry.rhs_dilation, geometry.padding, strict=True
                )
            ]
            pairs = list(zip(dilated, geometry.lhs_dilation, geometry.x_lengths, strict=True))
            if all(i % b == 0 and 0 <= i // b < n for i, b, n in pairs):
                at = {"x": tuple(i // b for i, b, _ in pairs), "w": tap, "y": step}
                out[(..., *at[third])] += np.einsum(equation, a[(..., *at[first])], b[(..., *at[second])])
    return join(out, third, geometry)


def random_geometry(rng, rank=None):
    """Draw a geometry and sizes (n, c, f): any order of axes, strides, dilations, pads (also negative) and groups."""
    rank = rank or int(rng.integers(1, 4))
    longest = {1: 9, 2: 6, 3: 4}[rank]

    def draw(low, high):
        return tuple(int(v) for v in rng.integers(low, high, rank))

    dims = [tuple(int(v) for v in rng.permutation(rank + 2)) for _ in range(3)]
    pads = tuple((int(a), int(b)) for a, b in rng.integers(-1, 4, (rank, 2)))
    groups = int(rng.choice([1, 1, 2, 3]))
    geometry = Geometry(
        draw(1, longest + 1), draw(1, 4), draw(1, 4), pads, draw(1, 3), draw(1, 3), groups, *dims
    )  # fmt: skip
    # do not crop more than the length
    pairs = zip(geometry.padding, geometry.x_lengths, geometry.lhs_dilation, strict=True)
    kept = tuple(pad if dilate(n, b) + sum(pad) >= 0 else (0, 0) for pad, n, b in pairs)
    return dataclasses.replace(geometry, padding=kept), tuple(int(v) for v in rng.integers(1, 4, 3))


def random_standard_geometry(seed):
    """Draw operands that have a standard form: strided input or output, few filters, depthwise, many groups, windows
    side by side.

    Returns the generator, the geometry and the outer sizes (n, c, f).
    """
    rng = np.random.default_rng(seed)
    geometry, (n, c, f) = random_geometry(rng)
    undone = ("lhs_dilation", "strides")[seed % 4 == 0]
    geometry = dataclasses.replace(geometry, **{undone: (1,) * geometry.rank})
    if seed % 4 == 2:
        geometry, c = dataclasses.replace(geometry, strides=(1,) * geometry.rank), c + f
    if seed % 8 == 5:
        ones = (1,) * geometry.rank
        geometry = dataclasses.replace(geometry, strides=geometry.w_lengths, lhs_dilation=ones, rhs_dilation=ones)
    if seed % 5 == 0:
        geometry, c = dataclasses.replace(geometry, groups=int(rng.integers(2, 12))), 1
    return rng, geometry, (n, c, f)


def shape(letter, geometry, outer):
    """Return the shape of x, w or y for outer sizes (n, c, f)."""
    n, c, f = outer
    g = geometry
    dims, sizes = {
        "x": (g.x_dims, (n, g.groups * c, *g.x_lengths)),
        "w": (g.w_dims, (g.groups * f, c, *g.w_lengths)),
        "y": (g.y_dims, (n, g.groups * f, *g.y_lengths)),
    }[letter]
    return tuple(size for _, size in sorted(zip(dims, sizes, strict=True)))
