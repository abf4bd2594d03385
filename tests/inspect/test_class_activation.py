"""Class activation maps: captum's numbers, CAM by hand, masks, data formats, nested models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.inspect import class_activation, observe


def captum_net(inputs=1):
    """Return the network of captum's tests, of one or two inputs that are added, its params and an image of 0 to 15."""
    xs = [jc.Input((1, 4, 4)) for _ in range(inputs)]
    h = xs[0] if inputs == 1 else jc.Add()(xs)
    h = jc.ReLU(name="relu")(jc.Conv2D(2, 3, data_format="channels_first", name="conv")(h))
    y = jc.Dense(4, activation="relu", name="head")(jc.Flatten()(h))
    model = jc.Model(xs if inputs > 1 else xs[0], y)
    row = jnp.array([1.0, 1, 1, 1, 1, -1, -1, -1])
    params = {
        "conv": {"kernel": jnp.ones((3, 3, 1, 2)), "bias": jnp.array([-50.0, -75.0])},
        "head": {"kernel": jnp.tile(row[:, None], (1, 4)), "bias": jnp.zeros(4)},
    }
    image = jnp.arange(16.0).reshape(1, 1, 4, 4)
    return model, params, image if inputs == 1 else [image, jnp.ones_like(image)]


def cam_net(data_format="channels_last", softmax=True, rank=1):
    """Return a nested network with the head that CAM needs."""
    options = {"data_format": data_format}
    conv, pool = getattr(jc, f"Conv{rank}D"), getattr(jc, f"GlobalAveragePooling{rank}D")
    encoder = jc.Sequential([conv(4, 3, **options), jc.Activation("tanh"), conv(5, 2, **options)], name="encoder")
    return jc.Sequential([encoder, pool(**options), jc.Dense(3, activation="softmax" if softmax else None)])


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("inputs", "at", "want"),
    [
        (1, "conv", [[11.25, 13.5], [20.25, 22.5]]),
        (1, "relu", [[0, 4], [28, 32.5]]),
        (2, "conv", [[14.5, 19], [32.5, 37]]),
        (1, None, [[0, 4], [28, 32.5]]),
    ],
)
def test_grad_cam_has_the_numbers_of_captum(inputs, at, want):
    model, params, x = captum_net(inputs)
    assert inputs == 2 or model.apply_fn(params, x)[0, 0] == 54
    np.testing.assert_allclose(class_activation(model, params, x, 0, at)[0], want, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("last", [False, True])
def test_grad_cam_of_each_channel_has_the_numbers_of_captum(last):
    want = np.array([[[-3.75, 3], [23.25, 30]], [[15, 10.5], [-3, -7.5]]])
    model, params, x = captum_net()
    if last:  # the same network with the channels last; the dense layer reads them first
        h = jc.Conv2D(2, 3, name="conv")(image := jc.Input((4, 4, 1)))
        y = jc.Dense(4, activation="relu", name="head")(jc.Flatten()(jc.Permute((3, 1, 2))(jc.ReLU()(h))))
        model, x, want = jc.Model(image, y), jnp.moveaxis(x, 1, -1), np.moveaxis(want, 0, -1)
    got = class_activation(model, params, x, 0, "conv", per_channel=True)
    np.testing.assert_allclose(got[0], want, rtol=1e-6)
    channels = -1 if last else 1
    sums = class_activation(model, params, x, 0, "conv", resize=True)
    resized = class_activation(model, params, x, 0, "conv", resize=True, per_channel=True)
    np.testing.assert_allclose(resized.sum(channels), sums, rtol=1e-5, atol=1e-5)
    positive = class_activation(model, params, x, 0, "conv", relu=True, per_channel=True)
    np.testing.assert_allclose(positive[0], np.maximum(want, 0), rtol=1e-6)


def test_guided_grad_cam_has_the_numbers_of_captum():
    model, params, x = captum_net()
    want = [[0, 0, 4, 4], [0, 0, 12, 8], [28, 84, 97.5, 65], [28, 56, 65, 32.5]]
    np.testing.assert_allclose(class_activation(model, params, x, 0, method="guided")[0, 0], want, rtol=1e-6)
    added = class_activation(*captum_net(2), 0, "conv", method="guided")
    factor = np.kron([[14.5, 19], [32.5, 37]], np.ones((2, 2)))
    want = factor * np.array([[1, 2, 2, 1], [2, 4, 4, 2], [2, 4, 4, 2], [1, 2, 2, 1]])
    for one in added:
        np.testing.assert_allclose(one[0, 0], want, rtol=1e-6)


@pytest.mark.few(1)
@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_cam_is_the_dense_weights_times_the_last_features(data_format, rank, key):
    model = cam_net(data_format, rank=rank)
    shape = (2, *(6, 5, 5)[:rank], 2)
    x = jax.random.normal(key, shape)
    x = x if data_format == "channels_last" else jnp.moveaxis(x, -1, 1)
    params, apply_fn = model.init(key, x.shape)
    features = observe(apply_fn, params, x)["encoder/conv" + f"{rank}d_1"]
    features = features if data_format == "channels_last" else jnp.moveaxis(features, 1, -1)
    classes = jnp.array([2, 0])
    want = jnp.einsum("b...c,cb->b...", features, params["dense"]["kernel"][:, classes])
    got = class_activation(apply_fn, params, x, classes, method="cam")
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    grad = class_activation(apply_fn, params, x, classes)
    np.testing.assert_allclose(grad * (want[0].size), want, rtol=1e-5, atol=1e-6)
    resized = class_activation(apply_fn, params, x, classes, resize=True, relu=True)
    assert resized.shape == shape[:-1] and resized.min() >= 0
    # the mean of a map, with the bias of the head, is the logit
    score = want.mean(tuple(range(1, 1 + rank))) + params["dense"]["bias"][classes]
    np.testing.assert_allclose(
        jax.nn.softmax(cam_net(data_format, False, rank).apply_fn(params, x))[[0, 1], classes],
        apply_fn(params, x)[[0, 1], classes],
        rtol=1e-5,
    )
    np.testing.assert_allclose(score, cam_net(data_format, False, rank).apply_fn(params, x)[[0, 1], classes], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_random_networks_agree_with_captum(seed):
    torch, captum = pytest.importorskip("torch"), pytest.importorskip("captum.attr")
    rng = np.random.default_rng(seed)
    rank = 1 + seed % 2
    widths, taps, stride = rng.integers(2, 5, 3), rng.integers(1, 4, (2, rank)), int(rng.integers(1, 3))
    shape = (3, int(widths[0]), *(9, 8)[:rank])
    convs = [("relu", stride, taps[0]), ("tanh", 1, taps[1])]
    ours, theirs = [], []
    for number, (name, step, size) in enumerate(convs):
        filters = int(widths[number + 1])
        size = tuple(map(int, size))
        layer = getattr(jc, f"Conv{rank}D")(filters, size, step, data_format="channels_first", name=f"conv{number}")
        ours += [layer, jc.Activation(name, name=f"activation{number}")]
        theirs += [getattr(torch.nn, f"Conv{rank}d")(int(widths[number]), filters, size, step)]
        theirs += [torch.nn.ReLU() if name == "relu" else torch.nn.Tanh()]
    model = jc.Sequential([*ours, jc.Flatten(), jc.Dense(3, activation="softmax", name="dense")])
    params, apply_fn = model.init(jax.random.key(seed), shape)
    net = torch.nn.Sequential(*theirs, torch.nn.Flatten(), torch.nn.Linear(len(params["dense"]["kernel"]), 3))
    for name, module in (("conv0", net[0]), ("conv1", net[2]), ("dense", net[-1])):
        kernel, bias = np.asarray(params[name]["kernel"]), rng.normal(size=params[name]["bias"].shape)
        params[name]["bias"] = jnp.asarray(bias, jnp.float32)
        module.weight.data = torch.tensor(np.moveaxis(kernel, (-1, -2), (0, 1)).copy())
        module.bias.data = torch.tensor(bias, dtype=torch.float32)
    x, target = rng.normal(size=shape).astype("float32"), rng.integers(0, 3, 3)
    for index, at in enumerate(["conv0", "activation0", "conv1", "activation1"]):
        for relu in (False, True):
            cam = captum.LayerGradCam(net, net[index])
            want = cam.attribute(torch.tensor(x), torch.tensor(target), relu_attributions=relu).detach().numpy()[:, 0]
            got = class_activation(apply_fn, params, x, jnp.asarray(target, jnp.int32), at, relu=relu)
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())


@pytest.mark.slow
def test_padding_changes_no_map_and_masked_steps_are_zero(key):
    model = jc.Sequential([jc.Conv1D(3, 4), jc.GlobalAveragePooling1D(), jc.Dense(2)])
    params, apply_fn = model.init(key, (None, 9, 2))
    x = jax.random.normal(key, (1, 9, 2))
    padded = jnp.concatenate([x[:, :6], 100 * jnp.ones((1, 3, 2))], 1)
    mask = jnp.arange(9)[None] < 6
    alone = class_activation(apply_fn, params, x[:, :6], 1)
    got = class_activation(apply_fn, params, padded, 1, mask=mask)
    np.testing.assert_allclose(got[:, :3], alone, rtol=1e-5, atol=1e-6)
    assert not np.any(got[:, 3:])


@pytest.mark.slow
def test_it_runs_inside_jit_and_inside_time_distributed(key):
    inside = jc.Sequential([jc.Conv2D(3, 2), jc.ReLU()])
    model = jc.Sequential([jc.TimeDistributed(inside), jc.GlobalAveragePooling3D(), jc.Dense(2)])
    x = jax.random.normal(key, (2, 3, 5, 5, 2))
    params, apply_fn = model.init(key, x.shape)
    got = jax.jit(lambda params, x: class_activation(apply_fn, params, x, 0))(params, x)
    assert got.shape == (2, 3, 4, 4)
    np.testing.assert_allclose(got, class_activation(apply_fn, params, x, 0, "time_distributed"), rtol=1e-5, atol=1e-7)


def test_what_has_no_map_is_an_error(key):
    model, params, x = captum_net()
    with pytest.raises(ValueError, match=r"'cnv'.*'conv'"):
        class_activation(model, params, x, 0, "cnv")
    with pytest.raises(ValueError, match=r"'head'.*\(1, 4\)"):
        class_activation(model, params, x, 0, "head")
    with pytest.raises(ValueError, match=r"'grd'.*'grad'"):
        class_activation(model, params, x, 0, method="grd")
    with pytest.raises(ValueError, match=r"'cam'.*'conv'.*Dense"):
        class_activation(model, params, x, 0, "conv", method="cam")
    with pytest.raises(ValueError, match=r"'guided'.*per_channel"):
        class_activation(model, params, x, 0, method="guided", per_channel=True)
    with pytest.raises(ValueError, match="4"):
        class_activation(model, params, x, 4)
    words = jc.Sequential([jc.Embedding(5, 4), jc.Conv1D(3, 3), jc.GlobalMaxPooling1D(), jc.Dense(2)])
    with pytest.raises(TypeError, match=r"int32.*embedding"):  # guided backpropagation needs a gradient of the input
        class_activation(words, words.init(key, (None, 9))[0], jnp.zeros((2, 9), jnp.int32), 0, method="guided")
    dense, apply_fn = jc.Dense(2).init(key, (None, 3))
    with pytest.raises(ValueError, match="at"):
        class_activation(apply_fn, dense, jnp.ones((1, 3)), 0)
    with pytest.raises(TypeError, match="layer"):
        class_activation(params, model, x, 0)
