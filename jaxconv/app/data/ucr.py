"""UCR and UEA time series in the package aeon.

Reads aeon's files with its reader, and never uses the network: aeon's own ``load_classification`` downloads a data set
that it does not have, so names are checked against the files first.
"""

from pathlib import Path
from typing import Any

import numpy as np

from jaxconv.app.data.arrays import Splits
from jaxconv.errors import require
from jaxconv.registry import nearest
from jaxconv.training.targets import class_indices


def ucr(*, name: str, normalize: bool = False) -> Splits:
    """Load a UCR or UEA data set from aeon's package folder, with the archive's own training and test split.

    Classification sets have class indices in the sorted order of their labels (aeon reads labels in lower case);
    regression sets have float targets ``(samples, 1)``. Sets whose series differ in length are not supported; if the
    package has a version with equal lengths, its name ends in ``_eq``.

    Args:
        name: the name in the archive: "GunPoint", "ArrowHead", "BasicMotions" (six channels), "ACSF1".
        normalize: subtract each channel's mean and divide by its standard deviation, both computed over all samples
            and steps of the training set; a constant channel becomes 0. In many univariate sets of the archive every
            series is already normalized by its own mean and deviation.

    Shapes:
        x ``(samples, time, channels)`` float32; y ``(samples,)`` int32, or ``(samples, 1)`` float32 for regression.

    Raises:
        ValueError: aeon has no such data set, or its series differ in length.
        ImportError: aeon is not installed.

    Source: Dau et al., "The UCR time series archive", 2019; https://timeseriesclassification.com.

    >>> gunpoint = ucr(name="GunPoint")
    >>> gunpoint.x_train.shape, gunpoint.x_test.shape, gunpoint.classes
    ((50, 150, 1), (150, 150, 1), ('1', '2'))
    """
    files = _data_files()
    if name not in files:
        raise ValueError(f"data.name: aeon has no data set {name!r}; {nearest(name, files)}")
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


def _data_files() -> dict[str, tuple[Path, Path]]:
    """Return the data sets in aeon's package folder: name -> (training file, test file)."""
    aeon = require("aeon", "data.source 'ucr'")  # fast: the readers, with pandas and numba, are imported in _read
    files = {}
    for train in sorted((Path(aeon.__file__).parent / "datasets" / "data").glob("*/*_TRAIN.ts")):
        name = train.name.removesuffix("_TRAIN.ts")
        test = train.with_name(f"{name}_TEST.ts")
        if test.exists():
            files[name] = (train, test)
    return files


def _read(name: str, file: Path, names: Any) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return x ``(samples, time, channels)`` float64, the labels or targets, and whether they are targets."""
    from aeon.datasets import load_from_ts_file

    x, y, header = load_from_ts_file(str(file), return_meta_data=True)
    lengths = sorted({series.shape[-1] for series in x})
    if len(lengths) > 1:
        hint = f"; {name}_eq has one length" if f"{name}_eq" in names else ""
        steps = f"{lengths[0]} to {lengths[-1]} steps"
        raise ValueError(f"data.name: the series of {name!r} have {steps}, and a batch needs one length{hint}")
    return np.asarray(x).transpose(0, 2, 1), y, header["targetlabel"]
