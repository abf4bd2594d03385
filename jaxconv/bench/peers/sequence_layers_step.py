"""The TCN of :mod:`jaxconv.bench.stepping` in sequence-layers."""

from typing import Any

import jax
import jax.numpy as jnp
import sequence_layers.jax as sl

from jaxconv.bench.stepping import Stepper, Tcn


def build_stepper(network: Tcn) -> Stepper:
    """Build the TCN and jit its step."""
    parts: list[Any] = []
    for first in range(0, len(network.weights), 2):
        convs = [
            sl.Conv1D.Config(
                kernel.shape[2],
                len(kernel),
                dilation_rate=network.dilation(first),
                padding="causal",
                activation=jax.nn.relu,
                bias_init=lambda *_, bias=bias: jnp.asarray(bias),
                kernel_init=lambda *_, kernel=kernel: jnp.asarray(kernel),
            )
            for kernel, bias in network.weights[first : first + 2]
        ]
        parts += [sl.Residual.Config(convs), sl.Relu.Config()]
    layer = sl.Serial.Config(parts).make()
    channels = network.weights[0][0].shape[1]
    example = sl.Sequence.from_values(jnp.zeros((network.batch, 1, channels)))
    params = layer.init(jax.random.key(0), example, training=False)

    @jax.jit
    def start() -> Any:
        spec = example.channel_spec
        return layer.apply(params, network.batch, spec, training=False, method=layer.get_initial_state)

    def one(state: Any, x: Any) -> tuple[Any, Any]:
        y, state = layer.apply(params, sl.Sequence.from_values(x), state, training=False, method=layer.step)
        return y.values, state

    return Stepper(start, jax.jit(one, donate_argnums=0))
