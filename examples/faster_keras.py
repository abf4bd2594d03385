"""Train a Keras network with and without one line of jaxconv. Run: python examples/faster_keras.py

The network is a small ResNeXt, whose grouped convolutions XLA computes slowly on CPU. Needs keras (pip install keras).
"""

import os
import time

os.environ["KERAS_BACKEND"] = "jax"  # before the first import of keras

import keras
import numpy as np

import jaxconv


def resnext():
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(64, 3, 2, "same")(x)
    for _ in range(3):
        y = keras.layers.Conv2D(64, 3, padding="same", groups=16)(keras.layers.ReLU()(x))
        x = keras.layers.Add()([x, keras.layers.Conv2D(64, 1)(keras.layers.ReLU()(y))])
    model = keras.Model(inputs, keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(x)))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


rng = np.random.default_rng(0)
x, y = rng.standard_normal((64, 32, 32, 3), "float32"), rng.integers(0, 10, 64)


def fit():
    """Return the loss after each epoch, and the seconds of an epoch; the first one compiles."""
    model, losses, seconds = resnext(), [], []
    for _ in range(3):
        start = time.perf_counter()
        losses += model.fit(x, y, batch_size=16, shuffle=False, verbose=0).history["loss"]
        seconds.append(time.perf_counter() - start)
    return losses, min(seconds[1:])


losses, before = fit()
jaxconv.accelerate()  # the one line
same, after = fit()
jaxconv.accelerate(False)

np.testing.assert_allclose(same, losses, rtol=1e-3)
print(f"model.fit of 64 images: {1e3 * before:.0f} ms; with jaxconv.accelerate(): {1e3 * after:.0f} ms")
print(f"equal losses, {before / after:.1f} times as fast")
