"""The file of learning curves in a run folder. Knows the rows of ``metrics.csv``; nothing about models."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxconv.files.atomic import replacing
from jaxconv.inspect import plot


def draw_curves(
    rows: Sequence[Mapping[str, float]],
    path: str | Path,
    *,
    title: str = "",
    test: Mapping[str, float] | None = None,
    best_epoch: int | None = None,
) -> None:
    """Draw one panel per metric, with training and validation, to a file in the format of its suffix."""
    figure = plot.curves(rows, test=test, best_epoch=best_epoch)
    if title:
        figure.suptitle(title, x=0.012, ha="left", fontsize=12, fontweight="bold")
    with replacing(path) as handle:
        figure.savefig(handle, format=Path(path).suffix[1:] or "png", dpi=140)
