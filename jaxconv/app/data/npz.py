"""The user's own data in one ``.npz`` file that fits in memory."""

from jaxconv.app.array_files import read_npz
from jaxconv.app.data.arrays import KEYS, Splits, in_memory
from jaxconv.app.schema import ConfigError, FilePath


def npz(*, path: FilePath) -> Splits:
    """Load a file written by ``numpy.savez`` or ``numpy.savez_compressed``, with four arrays named as in ``Splits``.

    x has any float, integer or boolean dtype; its values are converted to float32 and not scaled. The dtype of y
    determines the task: integers, booleans and strings are class labels of any value, mapped to 0..n-1 in sorted order;
    floats are targets. All four arrays are required. Other arrays in the file are ignored. Pickled objects raise
    ValueError, because reading one can run code.

    Args:
        path: the file, relative to the config or to the current folder.

    Shapes:
        In the file: x ``(samples, *spatial, channels)``; y ``(samples,)`` or, for targets, ``(samples, *outputs)``.
        In the result: labels ``(samples,)`` int32; targets float32, ``(samples, *outputs)`` and at least
        ``(samples, 1)``.

    Raises:
        ValueError: the file or an array in it is missing or cannot be read; shapes or dtypes do not fit each other; a
            value is not finite in float32; a label of the test set is not in the training set.

    ::

        np.savez("mine.npz", x_train=..., y_train=..., x_test=..., y_test=...)
        splits = load({"source": "npz", "path": "mine.npz"})
    """

    def label(key: str) -> str:
        return f"data.path: {key} in {path!r}"

    try:
        return in_memory(read_npz(path, KEYS), label, f"data.path: {path!r}")
    except ConfigError as error:
        hint = "; for single .npy files use source 'npy'" if path.endswith(".npy") else ""
        raise ValueError(f"data.path: {error}{hint}") from None
