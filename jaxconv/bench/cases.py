"""The benchmark's convolutions: a TOML list of shapes, and the operands of each."""

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxconv.registry import nearest
from jaxconv.windows import Window

PADDINGS = ("valid", "same", "causal")


@dataclasses.dataclass(frozen=True)
class Case:
    """One convolution with channels last; the lists have a number for each spatial axis.

    family, source: the kind of convolution, the network or report that the sizes are from. channels: (in, out).
    padding: valid, same or causal. transpose: whether it is a transposed convolution. dtype: float32 or bfloat16.
    """

    name: str
    batch: int
    spatial: tuple[int, ...]
    channels: tuple[int, int]
    kernel: tuple[int, ...]
    padding: str
    family: str = ""
    source: str = ""
    strides: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    transpose: bool = False
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("strides", "dilation"):
            object.__setattr__(self, name, getattr(self, name) or (1,) * self.rank)
        if self.padding not in PADDINGS:
            raise ValueError(f"case {self.name!r}: padding {self.padding!r}; {nearest(self.padding, PADDINGS)}")
        if any(len(sizes) != self.rank for sizes in (self.spatial, self.strides, self.dilation)):
            raise ValueError(f"case {self.name!r}: spatial, kernel, strides and dilation differ in length")

    @property
    def rank(self) -> int:
        """Return the number of spatial axes."""
        return len(self.kernel)


class Arrays(NamedTuple):
    """The operands of a case: input, kernel, output gradient, options of ``jax.lax.conv_general_dilated``.

    pads: (before, after) for each axis; what is cropped, for a transposed convolution.
    """

    x: np.ndarray
    w: np.ndarray
    dy: np.ndarray
    options: dict[str, Any]
    pads: list[tuple[int, int]]


def read_cases(path: str | Path | None = None) -> list[Case]:
    """Read ``[[case]]`` tables from a TOML file, by default the package's own list. Raises ValueError if it is invalid.

    >>> read_cases()[0].name
    'conv1d-fcn-1'
    """
    where = Path(path) if path is not None else resources.files("jaxconv.bench") / "cases.toml"
    try:
        tables = tomllib.loads(where.read_text(encoding="utf-8")).get("case")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{where}: not a TOML file: {error}") from None
    if not isinstance(tables, list) or not all(isinstance(table, Mapping) for table in tables) or not tables:
        raise ValueError(f"{where}: the file has no [[case]] table")
    return [_case(table, where) for table in tables]


def _case(table: Mapping[str, Any], where: Any) -> Case:
    fields = {field.name: field for field in dataclasses.fields(Case)}
    for key in table:
        if key not in fields:
            raise ValueError(f"{where}: unknown key {key!r} in a case; {nearest(key, fields)}")
    missing = [name for name, field in fields.items() if field.default is dataclasses.MISSING and name not in table]
    if missing:
        raise ValueError(f"{where}: the case {table.get('name', '')!r} has no {missing[0]!r}")
    options: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    return Case(**options)


def arrays(case: Case) -> Arrays:
    """Return the operands of a case in float32; they are the same in every call.

    >>> case = Case("tiny", 1, (8,), (2, 4), (3,), "causal", strides=(2,))
    >>> [v.shape for v in arrays(case)[:3]], arrays(case).options["padding"]
    ([(1, 8, 2), (3, 2, 4), (1, 4, 4)], [(2, 0)])
    """
    rng = np.random.default_rng(0)
    inputs, filters = case.channels
    fan_in = math.prod(case.kernel) * inputs // case.groups
    letters = "DHW"[3 - case.rank :]
    sizes = zip(case.kernel, case.strides, case.dilation, strict=True)
    windows = [Window(*size, padding=case.padding, transposed=case.transpose) for size in sizes]
    lengths = [window.output_length(n, case.name) for window, n in zip(windows, case.spatial, strict=True)]
    pads = [window.pads(n) for window, n in zip(windows, case.spatial, strict=True)]
    options: dict[str, Any] = {
        "dimension_numbers": (f"N{letters}C", f"{letters}IO", f"N{letters}C"),
        "feature_group_count": case.groups,
        "rhs_dilation": case.dilation,
        "window_strides": (1,) * case.rank if case.transpose else case.strides,
        "padding": pads,
    }
    if case.transpose:  # a transposed convolution crops its full output
        full = [(k - 1 - low, k - 1 - high) for k, (low, high) in zip(case.kernel, pads, strict=True)]
        options |= {"lhs_dilation": case.strides, "padding": full}
    x = rng.standard_normal((case.batch, *case.spatial, inputs)).astype("f4")
    w = rng.standard_normal((*case.kernel, inputs // case.groups, filters)).astype("f4") / np.float32(fan_in**0.5)
    dy = rng.standard_normal((case.batch, *lengths, filters)).astype("f4")
    return Arrays(x, w, dy, options, pads)
