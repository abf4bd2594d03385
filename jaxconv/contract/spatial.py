"""The spatial axes of an input in both data formats: their positions, lengths, windows and names."""

import dataclasses
import inspect
from collections.abc import Collection, Sequence
from typing import Any

from jaxconv import data_format as formats
from jaxconv.geometry import each_axis
from jaxconv.windows import Window


def spatial_axes(rank: int, data_format: str | None) -> range:
    """Return the spatial axes of an input, counted with the batch.

    >>> spatial_axes(2, "channels_first")
    range(2, 4)
    """
    first = 1 if data_format == "channels_last" else 2
    return range(first, first + rank)


def spatial_lengths(
    shape: Any, rank: int, data_format: str | None, where: str, windows: Sequence[Window] = ()
) -> tuple:
    """Return the lengths of the spatial axes of an input shape.

    Raises ValueError for an input of another rank, or with a spatial axis of length 0; if ``windows`` contains those of
    the spatial axes, the error names the shortest valid length.
    """
    formats.check_rank(shape, rank, str(data_format), where)
    axes = spatial_axes(rank, data_format)
    for index, axis in enumerate(axes):
        if isinstance(shape[axis], int) and shape[axis] < 1:
            if windows:
                windows[index].output_length(shape[axis], where)
            what = f"input of length 0 along axis {axis}, in shape {tuple(shape)}"
            raise ValueError(f"{where}: {what}; the shortest valid input is 1")
    return tuple(shape[axis] for axis in axes)


def with_channels(data_format: str | None, spatial: Sequence[Window], channels: Window) -> tuple[Window, ...]:
    """Return the windows of all axes after the batch: those of the spatial axes, and that of the channels.

    >>> with_channels("channels_first", [Window(3)], Window())[0].pointwise
    True
    """
    return (*spatial, channels) if data_format == "channels_last" else (channels, *spatial)


def without_padding(layer: Any, axes: Collection[int]) -> Any:
    """Return a convolution, or a layer that crops or pads, without padding along these axes, counted with the batch."""
    option, places = getattr(layer, "edges", "padding"), spatial_axes(layer.rank, layer.data_format)
    rules = zip(places, each_axis(getattr(layer, option), layer.rank), strict=True)
    bare: dict[str, Any] = {option: tuple((0, 0) if axis in axes else rule for axis, rule in rules)}
    if getattr(layer, "output_padding", None) is not None:
        more = zip(places, layer.output_padding, strict=True)
        bare["output_padding"] = tuple(0 if axis in axes else n for axis, n in more)
    return dataclasses.replace(layer, **bare)


def family_docstring(cls: type, rank: int) -> str | None:
    """Return the docstring of a layer of one rank: its own text, that of its family, and the nearest example.

    The family is the nearest base with a section "Shapes:". All of its docstring but the first line is used;
    ``*spatial`` and ``*new_spatial`` in it become the names of the axes.

    >>> class Base:
    ...     '''A family.
    ...
    ...     Shapes: (batch, *spatial) -> (batch, *new_spatial).
    ...     '''
    >>> class Two(Base):
    ...     '''Compute something over an image.'''
    >>> print(family_docstring(Two, 2))
    Compute something over an image.
    <BLANKLINE>
    Shapes: (batch, rows, columns) -> (batch, new_rows, new_columns).
    """
    texts = [inspect.cleandoc(one.__doc__ or "") for one in cls.__mro__]
    family = next((number for number, text in enumerate(texts[1:], 1) if "Shapes:" in text), 0)
    if not family or not cls.__doc__:  # python -OO
        return cls.__doc__
    parts = [text.partition(">>>") for text in texts[: family + 1]]
    example = next((prompt + rest for _, prompt, rest in parts if prompt), "")
    names = ["time"] if rank == 1 else ["depth", "rows", "columns"][-rank:]
    shared = parts[-1][0].partition("\n\n")[2].rstrip()
    shared = shared.replace("*new_spatial", ", ".join(f"new_{name}" for name in names))
    shared = shared.replace("*spatial", ", ".join(names))
    return "\n\n".join(filter(None, (parts[0][0].rstrip(), shared, example)))
