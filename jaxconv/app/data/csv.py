"""The user's own data in two tables of text that fit in memory."""

import numpy as np

from jaxconv.app.array_files import find_file
from jaxconv.app.data.arrays import Splits, in_memory
from jaxconv.app.schema import ConfigError, FilePath


def csv(
    *, train: FilePath, test: FilePath, target: int = 0, channels: int = 1, delimiter: str = ",", header: int = 0
) -> Splits:
    """Load two tables of text, in which each line is a sample: its label or target, and its values in order.

    The column of the target determines the task, as for ``npz``: integers and words are class labels, other numbers are
    targets. Nothing is scaled.

    Args:
        train, test: the files, relative to the config or to the current folder.
        target: the number of the column with the label or target; -1 is the last one.
        channels: values of each step; a line has those of the first step first.
        delimiter: the text between the columns; a tab is ``"\\t"``.
        header: lines to skip at the start.

    Shapes:
        x ``(samples, steps, channels)`` float32; labels ``(samples,)`` int32, targets ``(samples, 1)`` float32.

    Raises:
        ValueError: a file is missing or not such a table; a label of the test set is not in the training set.
    """
    files = {"train": train, "test": test}
    tables = {key: _read(f"data.{key}", path, delimiter, header) for key, path in files.items()}
    arrays: dict[str, np.ndarray] = {}
    for key, table in tables.items():
        columns = table.shape[1]
        if not -columns <= target < columns:
            what = f"{target}, but {files[key]!r} has {columns} columns"
            raise ValueError(f"data.target: {what}; give 0 to {columns - 1}")
        if channels < 1 or columns < 2 or (columns - 1) % channels:
            what = f"{channels} does not divide the {columns - 1} values of a line in {files[key]!r}"
            raise ValueError(f"data.channels: {what}; give a positive divisor")
        try:
            x = np.delete(table, target, 1).astype(np.float64)
        except ValueError as error:
            raise ValueError(f"data.{key}: {files[key]!r} has values that are not numbers: {error}") from None
        arrays |= {f"x_{key}": x.reshape(len(x), -1, channels), f"y_{key}": np.char.strip(table[:, target])}
    kind = _kind(np.concatenate([arrays["y_train"], arrays["y_test"]]))  # 1 and 2 are targets if there is also 0.5
    arrays |= {key: arrays[key].astype(kind) for key in ("y_train", "y_test")}

    def label(name: str) -> str:
        part, _, key = name.partition("_")
        return f"data.{key}: {part} in {files[key]!r}"

    return in_memory(arrays, label, f"data.train: {train!r}")


def _read(key: str, path: str, delimiter: str, header: int) -> np.ndarray:
    try:
        file, options = find_file(path, ".csv"), {"skiprows": header, "encoding": "utf-8-sig", "comments": None}
        table = np.loadtxt(file, str, delimiter=delimiter, ndmin=2, **options)  # type: ignore[call-overload]
    except ConfigError as error:
        raise ValueError(f"{key}: {error}") from None
    except Exception as error:  # numpy raises many kinds of errors for what is not text, or not a table
        raise ConfigError(f"{key}: {path!r} is not a table of text: {error}") from None
    if not table.size:
        raise ValueError(f"{key}: {path!r} has no lines")
    return table


def _kind(words: np.ndarray) -> str:
    for kind in ("i8", "f8"):
        try:
            words.astype(kind)
        except (ValueError, OverflowError):
            continue
        return kind
    return "U"
