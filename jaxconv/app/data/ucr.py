"""UCR and UEA time series that ship inside the package aeon.

Knows aeon's files and its reader. It never reaches for the network: aeon's own ``load_classification`` would download
a set that it does not have, so names are checked against the files first.
"""

from pathlib import Path
from typing import Any

import numpy as np

from jaxconv.app.data.labels import class_indices
from jaxconv.app.data.splits import Splits
from jaxconv.registry import nearest


def ucr(*, name: str, normalize: bool = False) -> Splits:
    """Load a UCR or UEA set from aeon's package folder, with the archive's own training and test split.

    Classification sets give class indices in the sorted order of their labels (aeon reads labels in lower case);
    regression sets give float targets ``(cases, 1)``. Sets whose series differ in length are refused: where the package
    has an equal-length version, its name ends in ``_eq``.

    Args:
        name: the set, as the archive spells it: "GunPoint", "ArrowHead", "BasicMotions" (six channels), "ACSF1".
        normalize: subtract each channel's mean and divide by its standard deviation, both taken over all cases and
            steps of the training set; a constant channel becomes 0. In many univariate sets of the archive every
            series is normalised already, by its own mean and deviation.

    Shapes:
        x ``(cases, time, channels)`` float32; y ``(cases,)`` int32, or ``(cases, 1)`` float32 for regression.

    Raises:
        ValueError: aeon ships no such set, or its series differ in length.
        ImportError: aeon is not installed.

    Source: Dau et al., "The UCR time series archive", 2019; https://timeseriesclassification.com.

    >>> gunpoint = ucr(name="GunPoint")
    >>> gunpoint.x_train.shape, gunpoint.x_test.shape, gunpoint.classes
    ((50, 150, 1), (150, 150, 1), ('1', '2'))
    """
    files = _shipped()
    if name not in files:
        raise ValueError(f"data.name: no set {name!r} ships with aeon; {nearest(name, files)}")
    (x_train, y_train, regression), (x_test, y_test, _) = (_read(name, file, files) for file in files[name])
    if normalize:
        mean, deviation = x_train.mean((0, 1)), x_train.std((0, 1))
        scale = np.where(deviation > 0, deviation, 1.0)
        x_train, x_test = (x_train - mean) / scale, (x_test - mean) / scale
    classes = None
    if regression:
        y_train, y_test = y_train.astype(np.float32)[:, None], y_test.astype(np.float32)[:, None]
    else:
        y_train, y_test, classes = class_indices(y_train, y_test, f"data.name: {name!r}")
    return Splits(x_train.astype(np.float32), y_train, x_test.astype(np.float32), y_test, classes)


def _shipped() -> dict[str, tuple[Path, Path]]:
    """Find the sets in aeon's package folder: name -> (training file, test file)."""
    try:
        import aeon  # light: the readers, with pandas and numba behind them, are imported in _read
    except ImportError:
        raise ImportError("data.source 'ucr' needs aeon; install it with: pip install 'jaxconv[train]'") from None
    files = {}
    for train in sorted((Path(aeon.__file__).parent / "datasets" / "data").glob("*/*_TRAIN.ts")):
        name = train.name.removesuffix("_TRAIN.ts")
        test = train.with_name(f"{name}_TEST.ts")
        if test.exists():
            files[name] = (train, test)
    return files


def _read(name: str, file: Path, names: Any) -> tuple[np.ndarray, np.ndarray, bool]:
    """Give x ``(cases, time, channels)`` float64, the labels or targets, and whether they are targets."""
    from aeon.datasets import load_from_ts_file

    x, y, header = load_from_ts_file(str(file), return_meta_data=True)
    lengths = sorted({series.shape[-1] for series in x})
    if len(lengths) > 1:
        instead = f"; {name}_eq has one length" if f"{name}_eq" in names else ""
        raise ValueError(
            f"data.name: the series of {name!r} have {lengths[0]} to {lengths[-1]} steps, "
            f"and a batch needs one length{instead}"
        )
    return np.asarray(x).transpose(0, 2, 1), y, header["targetlabel"]
