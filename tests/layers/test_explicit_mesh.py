"""Layers on a mesh with Explicit axes, the default of ``jax.make_mesh``: sharded batches as on one device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxconv
from tests.support.catalogue import CASES, flat, inputs, map_shapes

DIRECT = {
    "LocallyConnected1D": (jaxconv.LocallyConnected1D(6, 3, strides=2), (16, 10, 3)),
    "LocallyConnected2D": (jaxconv.LocallyConnected2D(6, 3), (16, 5, 6, 3)),
    "LocallyConnected3D": (jaxconv.LocallyConnected3D(6, 2), (16, 4, 3, 4, 3)),
    "Embedding": (jaxconv.Embedding(10, 4), (16, 5)),
    "Reshape": (jaxconv.Reshape((2, -1, 5)), (16, 6, 5, 4)),
    "Dropout": (jaxconv.Dropout(0.5), (16, 6, 4)),
    "SpatialDropout1D": (jaxconv.SpatialDropout1D(0.5), (16, 6, 4)),
}


def results(layer, params, x, apply_fn):
    """Return output and gradient of a training step, with one jit inside another."""
    inner = jax.jit(lambda params, x: apply_fn.forward(params, x, train=True, key=jax.random.key(1))[0])

    def loss(params, x):
        y = inner(params, x)
        return jnp.sum(jnp.sin(y)), y

    (_, y), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params, x)
    return y, gradient


QUICK = ("LocallyConnected2D", "Embedding", "Reshape", "Dropout")


@pytest.mark.few(2)
@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in DIRECT])
def test_a_sharded_batch_gives_the_output_and_gradient_of_one_device(name):
    layer, shape = DIRECT[name]
    params, apply_fn = layer.init(jax.random.key(0), shape)
    x = jnp.arange(np.prod(shape), dtype="int32" if name == "Embedding" else "float32").reshape(shape) % 10
    wants = results(layer, params, x, apply_fn)
    mesh = jax.make_mesh((8,), ("d",))
    assert mesh.axis_types == (AxisType.Explicit,)
    with jax.set_mesh(mesh):
        gots = results(layer, params, jax.device_put(x, NamedSharding(mesh, PartitionSpec("d"))), apply_fn)
    assert jax.typeof(gots[0]).sharding.spec[0] == "d"
    for got, want in zip(jax.tree.leaves(gots), jax.tree.leaves(wants), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5, rtol=1e-5)


def placed(mesh, tree, *spec):
    sharding = NamedSharding(mesh, PartitionSpec(*spec))
    return jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=sharding), tree)


EVERY_KIND = {type(case.layer): name for name, case in CASES.items() if len(flat(case.layer)) == 1}


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY_KIND.values())
def test_every_kind_of_layer_traces_a_training_step_of_a_sharded_batch(name):
    layer, shape = CASES[name].layer, map_shapes(lambda s: (8, *s[1:]), CASES[name].shape)
    params, apply_fn = layer.init(jax.random.key(0), shape)
    mesh = jax.make_mesh((8,), ("d",))

    def loss(trainable, fixed, x):
        y = apply_fn.forward(jaxconv.merge(trainable, fixed), x, train=True, key=jax.random.key(1))[0]
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(y))

    with jax.set_mesh(mesh):
        x, everywhere = placed(mesh, inputs(shape), "d"), placed(mesh, apply_fn.split(params))
        jax.eval_shape(jax.grad(loss), *everywhere, x)


def test_gradients_where_only_the_input_or_only_the_params_are_on_the_mesh():
    """Without jax.set_mesh, a gradient of what is on no mesh is whole on the mesh of the other operand."""
    layer, x = jaxconv.Conv1D(4, 3, padding="same"), jnp.sin(jnp.arange(8 * 6 * 2.0)).reshape(8, 6, 2)
    params, apply_fn = layer.init(jax.random.key(0), x.shape)
    step = jax.jit(jax.grad(lambda params, x: jnp.sum(jnp.sin(apply_fn(params, x))), (0, 1)))
    mesh, want = jax.make_mesh((8,), ("d",)), step(params, x)
    everywhere, cut = (NamedSharding(mesh, PartitionSpec(*spec)) for spec in ((), ("d",)))
    for arguments in ((params, jax.device_put(x, cut)), (jax.device_put(params, everywhere), x)):
        for got, one in zip(jax.tree.leaves(step(*arguments)), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(got, one, atol=1e-5)
