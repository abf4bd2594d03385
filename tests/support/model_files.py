"""Model files for the tests of the commands."""

import jax

import jaxconv as jc


def classifier():
    """Return a small classifier with a nested part and a normalization, as a graph."""
    x = jc.Input((10, 1), name="signal")
    body = jc.Sequential(
        [jc.Conv1D(3, 3, kernel_constraint="max_norm"), jc.BatchNormalization(), jc.ReLU()], name="body"
    )
    y = jc.Conv1D(2, 1, name="conv_head", activation="relu")(body(x))
    return jc.Model(x, jc.Dense(2, activation="softmax", name="out")(jc.GlobalMaxPooling1D()(y)))


def two_inputs_and_outputs():
    """Return a model of two inputs and two outputs."""
    left, right = jc.Input((4, 1), name="left"), jc.Input((4, 1), name="right")
    total = jc.Add(name="total")([left, right])
    return jc.Model([left, right], [total, jc.Subtract(name="difference")([left, right])])


def write_models(folder):
    """Write the models ``m``, ``two`` and ``shapeless`` (without an input shape), and ``text.keras``, not a model."""
    for name, model in (("m", classifier()), ("two", two_inputs_and_outputs())):
        jc.save_model(folder / f"{name}.keras", model, model.init(jax.random.key(1))[0])
    dense, _ = jc.Dense(2).init(jax.random.key(0), (None, 3))
    jc.save_model(folder / "shapeless.keras", jc.Sequential([jc.Dense(2)]), {"dense": dense})
    (folder / "text.keras").write_text("hello")
