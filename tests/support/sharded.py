"""Programs of a layer for several devices: their communication in bytes, and the comparison with one device."""

import re

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

AXES = {"auto": AxisType.Auto, "explicit": AxisType.Explicit}


def on(mesh, *spec):
    """Return a sharding."""
    return NamedSharding(mesh, PartitionSpec(*spec))


def moved(compiled):
    """Return the bytes that each kind of collective of a compiled program returns on one device."""
    found: dict[str, int] = {}
    for line in compiled.as_text().splitlines():
        match = re.search(r"= (.*?) (all-gather|all-reduce|all-to-all|collective-permute)(?:-start)?\(", line)
        if match:
            shapes = re.findall(r"([a-z]+)(\d+)\[([\d,]*)\]", match[1])
            count = sum(
                int(bits) // 8 * int(np.prod([int(n) for n in dims.split(",") if n])) for _, bits, dims in shapes
            )
            found[match[2]] = found.get(match[2], 0) + count
    return found


def compiled(layer, shape, mesh, spec, tolerance=(1e-3, 1e-4)):  # sums of 4,096 terms in float32
    """Return programs for output and statistics and for value and gradients, and the bytes of the params and the value.

    They are compiled for an input with this sharding, and their results agree with those of one device.
    """
    params, apply_fn = layer.init(jax.random.key(0), shape)
    dtype = layer.policy.compute
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    whole, placed = on(mesh), on(mesh, *spec)
    arguments = jax.device_put(params, whole), jax.device_put(x, placed)

    def output(params, x):
        y, effects = apply_fn.forward(params, x, train=True, key=jax.random.key(1))
        return y, effects.fixed

    def loss(params, x):
        y, fixed = output(params, x)
        return jnp.sum(jnp.sin(y)), fixed

    programs = []
    functions = output, jax.value_and_grad(loss, (0, 1), has_aux=True)
    wants = [jax.jit(function)(params, x) for function in functions]
    y = wants[0][0]
    fits = (y.ndim == len(shape) or len(spec) == 1) and all(
        n % mesh.shape[name] == 0 for n, name in zip(y.shape, spec, strict=False) if name
    )
    for function, want in zip(functions, wants, strict=True):
        results = jax.tree.map(lambda _: whole, want)
        if function is output:
            results = (placed if fits else whole, results[1])
        else:
            results = (results[0], (results[1][0], placed))
        if AxisType.Auto in mesh.axis_types:
            programs.append(jax.jit(function, out_shardings=results).lower(*arguments).compile())
        else:
            with jax.set_mesh(mesh):
                programs.append(jax.jit(function).lower(*arguments).compile())
    for program, want in zip(programs, wants, strict=True):
        for got, one in zip(jax.tree.leaves(program(*arguments)), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(got, one, atol=tolerance[0], rtol=tolerance[1])
    trainable = jax.tree.leaves(apply_fn.split(params)[0])
    return programs, np.dtype(dtype).itemsize * (1 + sum(leaf.size for leaf in trainable))
