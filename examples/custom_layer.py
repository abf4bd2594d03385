"""A custom layer: a convolution with squeeze-and-excite gates, used in a model, a model file and a config.

Source of the layer: Hu et al. 2018, https://arxiv.org/abs/1709.01507
"""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import jax

import jaxconv as jc
from jaxconv.cli import main
from jaxconv.contract import Effects, Weight, layers, register, whole


@register(layers)
class SqueezeExciteConv1D(jc.Conv1D):
    """Convolve, then scale each channel by a gate computed from the channels' means over time.

    The input has channels last, and the activation keeps their number. A mask ends here, with a warning: the means
    include masked steps.
    """

    ratio: int = dataclasses.field(default=4, kw_only=True)  # filters / units of the hidden layer
    squeeze_initializer: Any = dataclasses.field(default="he_normal", kw_only=True)  # declares the weight "squeeze"
    squeeze_regularizer: Any = dataclasses.field(default=None, kw_only=True)
    excite_initializer: Any = dataclasses.field(default="zeros", kw_only=True)

    def windows(self, input_shape):  # how each output axis reads the input: the gates read the whole time axis
        time, channels = super().windows(input_shape)
        return whole(time.output_length(input_shape[1])), channels

    def weights(self, input_shape):
        hidden = self.filters // self.ratio
        own = {"squeeze": Weight((self.filters, hidden), self.squeeze_initializer)}
        own["excite"] = Weight((hidden, self.filters), self.excite_initializer)
        return super().weights(input_shape) | own

    def call(self, params, x, *, train, key, mask):
        y, _ = super().call(params, x, train=train, key=key, mask=mask)  # it reads only the weights of Conv1D
        hidden = jax.nn.relu(y.mean(1) @ params["squeeze"].astype(y.dtype))
        return y * jax.nn.sigmoid(hidden @ params["excite"].astype(y.dtype))[:, None], Effects()


x = jc.Input((64, 2))
y = SqueezeExciteConv1D(8, 5, padding="same", activation="relu", squeeze_regularizer="l2")(x)
model = jc.Model(x, jc.Dense(3)(jc.GlobalAveragePooling1D()(y)), name="model")
params, apply_fn = model.init(jax.random.key(0))
model.summary()
CONFIG = """
data = {source = "adding_problem", length = 20, train = 64, test = 32, seed = 0}
train = {epochs = 1, loss = "mean_squared_error"}
model = {layers = [{layer = "SqueezeExciteConv1D", filters = 8, kernel_size = 5}, {layer = "GlobalAveragePooling1D"},
                   {layer = "Dense", units = 1}]}
"""
with tempfile.TemporaryDirectory() as folder:
    jc.save_model(f"{folder}/model.keras", model, params)
    assert jc.load_model(f"{folder}/model.keras")[1] == apply_fn
    Path(folder, "config.toml").write_text(CONFIG)
    assert main(["train", f"{folder}/config.toml", "--out", f"{folder}/run"]) == 0
