"""Train a causal network by hand, with only (params, apply_fn), optax and jit.

The task is to predict x[t] - 0.5 x[t-3] from noise x. Run: python examples/train_by_hand.py
"""

import jax
import jax.numpy as jnp
import optax

from jaxconv import Conv1D, Sequential, merge
from jaxconv.constraints import MaxNorm

MAX_NORM = 0.9
bounded = {"kernel_constraint": MaxNorm(MAX_NORM, axis="filter"), "kernel_regularizer": "l2"}
model = Sequential(
    [
        Conv1D(16, 2, padding="causal", activation="tanh", **bounded),
        Conv1D(16, 2, padding="causal", dilation_rate=2, activation="tanh", **bounded),
        Conv1D(1, 1),
    ]
)
params, apply_fn = model.init(jax.random.key(0), (None, 64, 1))
trainable, fixed = apply_fn.split(params)
optimizer = optax.adamw(3e-3)
opt_state = optimizer.init(trainable)


def batch(key):
    x = jax.random.normal(key, (32, 64, 1))
    return x, x - 0.5 * jnp.pad(x, ((0, 0), (3, 0), (0, 0)))[:, :-3]


@jax.jit
def step(trainable, fixed, opt_state, key):
    x, y = batch(key)

    def loss(trainable):
        params = merge(trainable, fixed)
        predicted, effects = apply_fn.forward(params, x, train=True, key=key)
        error = jnp.mean((predicted - y) ** 2)
        return error + 1e-2 * apply_fn.penalty(params) + effects.penalty, (error, effects.fixed)

    (_, (error, fixed)), grads = jax.value_and_grad(loss, has_aux=True)(trainable)
    updates, opt_state = optimizer.update(grads, opt_state, trainable)
    return apply_fn.project(optax.apply_updates(trainable, updates)), fixed, opt_state, error


for number in range(501):
    trainable, fixed, opt_state, error = step(trainable, fixed, opt_state, jax.random.key(number))
    for name in ("conv1d", "conv1d_1"):
        norm = jnp.sqrt(jnp.sum(trainable[name]["kernel"] ** 2, axis=(0, 1)))
        assert norm.max() <= MAX_NORM * (1 + 1e-6), f"{name}: a filter of norm {norm.max()} broke its constraint"
    if number % 100 == 0:
        print(f"step {number:3d}  mean squared error {error:.4f}  largest filter norm {norm.max():.4f}")
