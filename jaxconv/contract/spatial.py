"""The spatial axes of an input in both data formats: where they are, their lengths, and their windows."""

from collections.abc import Sequence
from typing import Any

from jaxconv import data_format as formats
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

    Args:
        windows: those of the spatial axes, where they are known: an empty axis then names its shortest legal length.

    Raises:
        ValueError: an input of another rank, or with a spatial axis of length 0.
    """
    formats.check_rank(shape, rank, str(data_format), where)
    axes = spatial_axes(rank, data_format)
    for index, axis in enumerate(axes):
        if isinstance(shape[axis], int) and shape[axis] < 1:
            if windows:
                windows[index].output_length(shape[axis], where)
            raise ValueError(
                f"{where}: input of length 0 along axis {axis}, in shape {tuple(shape)}; the shortest legal input is 1"
            )
    return tuple(shape[axis] for axis in axes)


def with_channels(data_format: str | None, spatial: Sequence[Window], channels: Window) -> tuple[Window, ...]:
    """Return the windows of all axes after the batch: those of the spatial axes, and that of the channels.

    >>> with_channels("channels_first", [Window(3)], Window())[0].pointwise
    True
    """
    return (*spatial, channels) if data_format == "channels_last" else (channels, *spatial)
