"""Winograd's algorithms F(outputs, taps) for one axis, which take fewer products than the definition.

F(2, 3) takes four products for two neighbouring outputs of three taps, instead of six:

    y[0] = m0 + m1 + m2        m0 = (x[0] - x[2]) w[0]        m1 = (x[1] + x[2]) (w[0] + w[1] + w[2]) / 2
    y[1] = m1 - m2 + m3        m3 = (x[3] - x[1]) w[2]        m2 = (x[2] - x[1]) (w[0] - w[1] + w[2]) / 2

F(4, 3) takes six for four outputs, instead of twelve; F(2, 5) takes six for two outputs, instead of ten. In a
tile of two outputs, none of them depends on an entry that it does not read: y[0] does not depend on x[3]. Larger tiles
do not have this property.

Sources: Winograd, Arithmetic Complexity of Computations, 1980; for the points, Barabasz et al., Error Analysis and
Improving the Accuracy of Winograd Convolution for Deep Neural Networks, 2020.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

Rows = Sequence[Sequence[float]]


class Algorithm(NamedTuple):
    """One of Winograd's algorithms for one axis: the coefficients of x, of w and of the outputs, in each product.

    outputs: the number of outputs of a tile, for which ``len(x)`` neighbouring inputs are read.
    """

    outputs: int
    x: Rows
    w: Rows
    y: Rows

    def tiles(self, y: int, dilation: int) -> int:
        """Return the number of tiles of an axis; the outputs of one are a dilation apart."""
        return -(-y // (self.outputs * dilation))

    def reversed(self) -> "Algorithm":
        """Return the algorithm for a kernel that is given in reverse order."""
        return self._replace(w=tuple(row[::-1] for row in self.w))


def algorithm(outputs: int, taps: int, points: Sequence[Fraction | int]) -> Algorithm:
    """Return the algorithm F(outputs, taps).

    Polynomials with the coefficients w and y are evaluated at the points, and at infinity, where the value is the last
    coefficient. The coefficients of x are those of the Lagrange polynomials: zero at all points but one.
    """

    def values(degree: int) -> list[list[Fraction]]:
        last = [Fraction(0)] * (degree - 1) + [Fraction(1)]
        return [*([Fraction(point) ** i for i in range(degree)] for point in points), last]

    def product(roots: Sequence[Fraction | int]) -> list[Fraction]:
        out = [Fraction(1)]
        for root in roots:
            out = [a - root * b for a, b in zip([Fraction(0), *out], [*out, Fraction(0)], strict=True)]
        return out

    x, w = [], []
    for i, (point, row) in enumerate(zip(points, values(taps), strict=False)):
        others = [*points[:i], *points[i + 1 :]]
        scale = math.prod((Fraction(point) - other for other in others), start=Fraction(1))
        sign = 1 if scale > 0 else -1
        x.append([sign * c for c in product(others)] + [Fraction(0)])
        w.append([c / abs(scale) for c in row])
    x.append(product(points))
    w.append(values(taps)[-1])
    floats = (tuple(tuple(map(float, row)) for row in rows) for rows in (x, w, values(outputs)))
    return Algorithm(outputs, *floats)


# for six products: the errors are half those of the points 0, 1, -1, 2, -2
_SIX = (0, Fraction(2, 3), -Fraction(2, 3), Fraction(3, 2), -Fraction(3, 2))

# by the number of taps, for tiles of two and of four outputs
PAIRS = {5: algorithm(2, 5, _SIX), 3: algorithm(2, 3, (0, 1, -1)), 2: algorithm(2, 2, (0, 1))}
FOURS = {3: algorithm(4, 3, _SIX), 2: algorithm(4, 2, (0, Fraction(1, 2), -1, 2))}
