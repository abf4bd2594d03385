"""A data set of sixteen sequences and a config that trains on it in a second."""

from pathlib import Path

import numpy as np

_CONFIG = """
name = "tiny"
[data]
source = "npz"
path = "{data}"
[[model.layers]]
layer = "Conv1D"
filters = 2
kernel_size = 3
activation = "relu"
[[model.layers]]
layer = "BatchNormalization"
[[model.layers]]
layer = "Dropout"
rate = 0.2
[[model.layers]]
layer = "GlobalAveragePooling1D"
[[model.layers]]
layer = "Dense"
units = 2
activation = "softmax"
[train]
loss = "sparse_categorical_crossentropy"
metrics = ["accuracy"]
epochs = 2
batch_size = 8
checkpoint_every = 7
"""


def write_small_run(folder: Path) -> Path:
    """Write ``tiny.npz`` (two classes, "no" and "yes"), ``x.npy`` (its inputs) and the config ``tiny.toml``."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 10, 1)).astype("float32"), np.where(np.arange(16) % 2, "yes", "no")
    np.savez(folder / "tiny.npz", x_train=x, y_train=y, x_test=x[:8], y_test=y[:8])
    np.save(folder / "x.npy", x)
    (folder / "tiny.toml").write_text(_CONFIG.format(data=folder / "tiny.npz"))
    return folder / "tiny.toml"
