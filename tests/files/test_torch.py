"""Weights from and to PyTorch: the layouts by definition, and the outputs of PyTorch if it is installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.files.torch import params_from_torch, params_to_torch
from tests.support.catalogue import CASES, inputs
from tests.support.messages import facts

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


def array(*shape):
    return RNG.normal(size=shape).astype(np.float32)


# -- without PyTorch: every entry is where the definition of the layer needs it


def test_a_kernel_is_transposed_entry_by_entry():
    weight, bias = array(6, 2, 3, 5), array(6)  # torch.nn.Conv2d(4, 6, (3, 5), groups=2)
    params = params_from_torch(jc.Conv2D(6, (3, 5), groups=2), [weight, bias], input_shape=(None, 9, 9, 4))
    kernel = np.asarray(params["kernel"])
    assert kernel.shape == (3, 5, 2, 6)
    for o, i, a, b in np.ndindex(weight.shape):
        assert kernel[a, b, i, o] == weight[o, i, a, b]


def test_a_depthwise_kernel_puts_output_c_times_m_plus_j_at_channel_c_and_multiple_j():
    weight = array(6, 1, 4)
    params = params_from_torch(jc.DepthwiseConv1D(4, depth_multiplier=3, use_bias=False), [weight])
    for c, j, t in np.ndindex(2, 3, 4):
        assert params["kernel"][t, c, j] == weight[c * 3 + j, 0, t]


def test_dense_rows_after_a_flatten_are_put_in_the_order_of_the_flatten():
    layer = jc.Sequential([jc.Flatten(), jc.Dense(2, use_bias=False)])
    weight = array(2, 12)  # PyTorch: features channel by channel, 3 channels of (2, 2)
    params = params_from_torch(layer, [weight], input_shape=(None, 2, 2, 3))
    x = array(5, 2, 2, 3)
    want = x.transpose(0, 3, 1, 2).reshape(5, 12) @ weight.T
    np.testing.assert_allclose(layer.apply_fn(params, x), want, rtol=1e-5, atol=1e-5)  # float32 sums of 12


def test_channels_first_flattens_as_pytorch_does_unless_its_data_format_moves_the_channels():
    for flatten, moved in [(jc.Flatten("channels_last"), False), (jc.Flatten("channels_first"), True)]:
        layer = jc.Sequential([jc.Conv1D(2, 1, data_format="channels_first"), flatten, jc.Dense(2)])
        weight = array(2, 6)
        params = params_from_torch(layer, [array(2, 3, 1), array(2), weight, array(2)], input_shape=(None, 3, 3))
        assert np.array_equal(params["dense"]["kernel"], weight.T) is not moved


FLATTENS = {
    "flatten": [jc.Flatten()],
    "flatten twice": [jc.Flatten(), jc.Flatten()],
    "channels_first": [jc.Flatten("channels_first")],  # of an array with the channels last
    "reshape": [jc.Reshape((-1,))],
    "reshape twice": [jc.Reshape((6, 4)), jc.Reshape((24,))],
    "function": [jc.Function(lambda x: x.reshape(len(x), -1))],
}


@pytest.mark.parametrize("way", FLATTENS)
def test_every_way_to_flatten_is_put_in_pytorch_s_order(way):
    conv, layer = jc.Conv2D(4, 1), jc.Sequential([jc.Conv2D(4, 1), *FLATTENS[way], jc.Dense(2)])
    state = [array(4, 3, 1, 1), array(4), array(2, 24), array(2)]
    params = params_from_torch(layer, state, input_shape=(None, 3, 2, 3))
    x = array(5, 3, 2, 3)
    want = np.asarray(conv.apply_fn(params["conv2d"], x)).transpose(0, 3, 1, 2).reshape(5, 24) @ state[2].T + state[3]
    np.testing.assert_allclose(layer.apply_fn(params, x), want, rtol=1e-5, atol=1e-5)  # float32 sums of 24
    back = params_to_torch(layer, params, input_shape=(None, 3, 2, 3))
    for given, array_back in zip(state, back.values(), strict=True):
        np.testing.assert_array_equal(array_back, given)


def test_features_that_pytorch_has_last_too_keep_their_order():
    weight, x = array(2, 12), np.array([[1, 0, 2]])
    layer = jc.Sequential([jc.Embedding(5, 4), jc.Flatten(), jc.Dense(2, use_bias=False)])
    params = params_from_torch(layer, [array(5, 4), weight], input_shape=(None, 3))
    np.testing.assert_array_equal(params["dense"]["kernel"], weight.T)
    want = params["embedding"]["embeddings"][x].reshape(1, 12) @ weight.T
    np.testing.assert_allclose(layer.apply_fn(params, x), want, rtol=1e-5, atol=1e-5)  # float32 sums of 12
    layer = jc.Sequential([jc.Dense(4), jc.Flatten(), jc.Dense(2)])
    params = params_from_torch(layer, [array(4, 2), array(4), weight, array(2)], input_shape=(None, 3, 2))
    np.testing.assert_array_equal(params["dense_1"]["kernel"], weight.T)


def test_flat_features_become_channels_in_pytorch_s_order():
    state = [array(12, 3), array(12), array(2, 4, 1), array(2)]  # Linear(3, 12), view(-1, 4, 3), Conv1d(4, 2, 1)
    layer = jc.Sequential([jc.Dense(12), jc.Reshape((4, 3)), jc.Permute((2, 1)), jc.Conv1D(2, 1)])
    params, x = params_from_torch(layer, state, input_shape=(None, 3)), array(5, 3)
    hidden = (x @ state[0].T + state[1]).reshape(5, 4, 3)
    want = np.einsum("nct,oc->nto", hidden, state[2][..., 0]) + state[3]
    np.testing.assert_allclose(layer.apply_fn(params, x), want, rtol=1e-5, atol=1e-5)  # float32 sums of 4
    layer = jc.Sequential([jc.Dense(12), jc.Reshape((3, 4)), jc.Conv1D(2, 1)])
    with pytest.raises(ValueError, match=facts("conv1d", "PyTorch", "Reshape", "Permute")):
        params_from_torch(layer, state, input_shape=(None, 3))


MOVES = [jc.Permute((3, 1, 2)), jc.Permute((2, 1, 3)), jc.Reshape((3, 8)), jc.TimeDistributed(jc.Flatten())]


@pytest.mark.parametrize("moves", MOVES, ids=repr)
def test_a_flatten_of_moved_axes_is_an_error(moves):
    layer = jc.Sequential([jc.Conv2D(4, 1), moves, jc.Flatten(), jc.Dense(2)])
    params, _ = layer.init(KEY, (None, 3, 2, 3))
    with pytest.raises(ValueError, match=facts("flatten", "another order", "one Flatten")):
        params_to_torch(layer, params, input_shape=(None, 3, 2, 3))
    with pytest.raises(ValueError, match=facts("flatten", "another order", "one Flatten")):
        params_from_torch(layer, [array(4, 3, 1, 1), array(4), array(2, 24)], input_shape=(None, 3, 2, 3))


def test_a_normalization_between_flatten_and_dense_is_put_in_order_too():
    layer = jc.Sequential([jc.Flatten(), jc.BatchNormalization(), jc.ReLU(), jc.Dropout(0.5), jc.Dense(1)])
    gamma = np.arange(6, dtype=np.float32)
    state = [gamma, array(6), array(6), np.ones(6, np.float32), array(1, 6), array(1)]
    params = params_from_torch(layer, state, input_shape=(None, 3, 2))
    assert params["batch_normalization"]["gamma"].tolist() == [0, 3, 1, 4, 2, 5]


def kinds(layer):
    """Return the classes of the layers inside that have weights, a wrapper's own included."""
    inside = set().union(*map(kinds, layer.children.values()))
    return inside | ({type(layer).__name__} if layer.leaves or (inside and hasattr(layer, "layer")) else set())


def drawn(case):
    """Return random params of a case's shapes and types; no initializer runs."""
    shapes = jax.eval_shape(lambda: case.layer.init(KEY, case.shape)[0])
    return jax.tree.map(lambda leaf: np.asarray(RNG.normal(size=leaf.shape)).astype(leaf.dtype), shapes)


WITHOUT = {f"LocallyConnected{rank}D" for rank in (1, 2, 3)} | {"SpectralNormalization", "WeightNormalization"}
WITHOUT |= {"TimeDistributed", "SimpleRNN", "LSTM", "GRU", "Bidirectional"}
WITHOUT |= {"Projection", *(f"ConvLSTM{rank}D" for rank in (1, 2, 3))}  # the first is inside MultiHeadAttention
KNOWN = [
    name
    for name in CASES
    if not kinds(CASES[name].layer) & WITHOUT and name not in ("batch_normalization_renorm", "prelu")
]


@pytest.mark.parametrize("name", KNOWN)
def test_a_round_trip_is_the_same_to_the_bit(name):
    layer, shape = CASES[name]
    params = drawn(CASES[name])
    state = params_to_torch(layer, params, input_shape=shape)
    again = params_from_torch(layer, state, input_shape=shape)
    assert jax.tree.structure(again) == jax.tree.structure(params)
    assert all(a.dtype == b.dtype for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(params), strict=True))
    jax.tree.map(np.testing.assert_array_equal, again, params)


@pytest.mark.parametrize("name", sorted(set(CASES) - set(KNOWN)))
def test_layers_without_a_counterpart_in_pytorch_are_named(name):
    kind = type(CASES[name].layer).__name__
    with pytest.raises(ValueError, match=facts("PyTorch", kind)):
        params_to_torch(CASES[name].layer, drawn(CASES[name]), input_shape=CASES[name].shape)


def test_names_are_the_caller_s_or_the_places_in_params():
    layer = jc.Sequential([jc.Conv1D(2, 3), jc.BatchNormalization()], input_shape=(9, 1))
    params, _ = layer.init(KEY)
    assert list(params_to_torch(layer, params))[:3] == ["conv1d.weight", "conv1d.bias", "batch_normalization.weight"]
    names = ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"]
    named = params_to_torch(layer, params, names=names)
    assert list(named) == names[:-1]
    with pytest.raises(ValueError, match=r"6 arrays .*names has 1"):
        params_to_torch(layer, params, names=["weight"])


def test_shared_layers_are_converted_once():
    x = jc.Input((8, 2))
    conv = jc.Conv1D(2, 1)
    model = jc.Model(x, conv(conv(x)))
    params = params_from_torch(model, [array(2, 2, 1), array(2)])
    assert list(params) == ["conv1d"]


ERRORS = {  # the weights, the shape of the input, and the facts of the message
    "too few": ([array(2, 3, 1), array(2), array(4, 2, 1)], None, ["conv1d_1", "bias"]),
    "too many": ([array(2, 3, 1), array(2), array(4, 2, 1), array(4), array(4)], None, ["4 weights", "array 4"]),
    "window": (
        [array(2, 3, 5), array(2), array(4, 2, 1), array(4)],
        None,
        ["conv1d", "array 0 of shape (2, 3, 5), array 1 of shape (2,)", "Conv1D"],
    ),
    "channels": (
        [array(2, 3, 1), array(2), array(4, 5, 1), array(4)],
        (None, 9, 3),
        ["conv1d_1: kernel", "(1, 2, 4)", "(None, 9, 2)", "array 2 of shape (4, 5, 1)"],
    ),
    "scalar": ([np.float32(1)], None, ["conv1d: kernel", "array 0 of shape ()"]),
    "number": (3, None, ["state", "int", "state_dict"]),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_weights_that_do_not_fit_are_named(kind):
    state, shape, parts = ERRORS[kind]
    layer = jc.Sequential([jc.Conv1D(2, 1), jc.Conv1D(4, 1)])
    with pytest.raises((ValueError, TypeError), match=facts(*parts)):
        params_from_torch(layer, state, input_shape=shape)


RECURRENT = [jc.LSTM(2), jc.GRU(2), jc.SimpleRNN(2), jc.Bidirectional(jc.LSTM(2))]


@pytest.mark.parametrize("layer", [*RECURRENT, jc.MultiHeadAttention(2, 2)], ids=lambda layer: type(layer).__name__)
def test_layers_that_pytorch_has_in_another_form_are_named(layer):
    said = facts(f"{type(layer).__name__} cannot be converted", "PyTorch", "Conv, ", "Dense")
    with pytest.raises(ValueError, match=said):
        params_from_torch(layer, [array(8, 3)])


def test_layers_that_pytorch_lacks_are_named():
    with pytest.raises(ValueError, match=facts("PyTorch", "LocallyConnected1D", "['bias', 'kernel']")):
        params_from_torch(jc.LocallyConnected1D(2, 2), [array(2, 3, 1)])
    with pytest.raises(ValueError, match=facts("kernel", "depthwise", "(4, 2, 3)")):
        params_from_torch(jc.DepthwiseConv1D(3), [array(4, 2, 3), array(4)])
    with pytest.raises(ValueError, match=facts("dense", "kernel")):
        params_to_torch(jc.Sequential([jc.Dense(2)]), {})


def test_a_flatten_of_unknown_lengths_and_moved_features_are_refused():
    layer = jc.Sequential([jc.Flatten(), jc.Dense(2)])
    with pytest.raises(ValueError, match=facts("flatten", "None", "input_shape")):
        params_from_torch(layer, [array(2, 6), array(2)])
    for between, name in [(jc.Reshape((2, 3)), "reshape"), (jc.RepeatVector(2), "repeat_vector")]:
        layer = jc.Sequential([jc.Flatten(), between, jc.Dense(2)])
        with pytest.raises(ValueError, match=facts(name, "features", "order")):
            params_from_torch(layer, [array(2, 6), array(2)], input_shape=(None, 3, 2))
    x = jc.Input((3, 2))
    model = jc.Model(x, jc.Concatenate()([jc.Flatten()(x), jc.GlobalMaxPooling1D()(x)]))
    with pytest.raises(ValueError, match=facts("concatenate", "features", "orders")):
        params_from_torch(model, [])


# -- with PyTorch: the numbers that it computes


def compare(layer, net, shape, rtol=1e-5):
    """Compare a layer with a module on random input, both ways. Shapes here are channels last."""
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape) + 0.2)
    net.eval()
    x = np.asarray(inputs((2, *shape[1:])))
    last = not isinstance(layer, jc.Sequential) and len(shape) < 3
    ours = params_from_torch(layer, net.state_dict(), input_shape=shape)
    with torch.no_grad():
        theirs = net(torch.tensor(x if last else np.moveaxis(x, -1, 1))).numpy()
    got = np.asarray(layer.apply_fn(ours, x))
    want = np.moveaxis(theirs, 1, -1) if theirs.ndim > 2 else theirs
    assert got.shape == want.shape
    # relative to the largest entry: sums of some dozen float32 products, in another order
    np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol * np.abs(want).max())
    back = params_to_torch(layer, ours, input_shape=shape, names=net.state_dict())
    for name, tensor in net.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(back[name], tensor.numpy())


def convolutions():
    """Return (layer, module, shape) of every family."""
    nn = pytest.importorskip("torch").nn
    return {
        "conv1d": (jc.Conv1D(6, 3, 2, (1, 1)), nn.Conv1d(4, 6, 3, 2, 1), (None, 9, 4)),
        "conv2d groups": (
            jc.Conv2D(6, (3, 2), padding=((1, 1), (2, 2)), groups=2, dilation_rate=2, use_bias=False),
            nn.Conv2d(4, 6, (3, 2), padding=(1, 2), groups=2, dilation=2, bias=False),
            (None, 8, 7, 4),
        ),
        "conv3d": (jc.Conv3D(3, 2, 2), nn.Conv3d(2, 3, 2, 2), (None, 5, 4, 6, 2)),
        "conv1d same": (jc.Conv1D(3, 3, padding="same"), nn.Conv1d(2, 3, 3, padding="same"), (None, 6, 2)),
        "depthwise": (
            jc.DepthwiseConv2D(3, depth_multiplier=2, padding=((1, 1), (1, 1))),
            nn.Conv2d(3, 6, 3, padding=1, groups=3),
            (None, 6, 5, 3),
        ),
        "separable": (
            jc.SeparableConv1D(5, 3),
            nn.Sequential(nn.Conv1d(4, 4, 3, groups=4, bias=False), nn.Conv1d(4, 5, 1)),
            (None, 8, 4),
        ),
        "transposed": (
            jc.Conv1DTranspose(6, 4, 2, (1, 1), output_padding=1),
            nn.ConvTranspose1d(4, 6, 4, 2, 1, output_padding=1),
            (None, 7, 4),
        ),
        "transposed, padding that cuts nothing": (
            jc.Conv2DTranspose(3, (2, 3), 3, output_padding=0),
            nn.ConvTranspose2d(2, 3, (2, 3), 3),
            (None, 4, 3, 2),
        ),
        "transposed groups": (
            jc.Conv2DTranspose(6, 3, 2, padding=((1, 1), (0, 0)), output_padding=(1, 0), groups=2),
            nn.ConvTranspose2d(4, 6, 3, 2, (1, 0), output_padding=(1, 0), groups=2),
            (None, 4, 5, 4),
        ),
        "transposed 3d": (
            jc.Conv3DTranspose(2, 2, dilation_rate=2, padding=((1, 1),) * 3, output_padding=0),
            nn.ConvTranspose3d(3, 2, 2, padding=1, dilation=2),
            (None, 3, 4, 3, 3),
        ),
        "dense": (jc.Dense(3), nn.Linear(4, 3), (None, 4)),
        "prelu": (jc.PReLU(shared_axes=[1, 2]), nn.PReLU(3), (None, 4, 5, 3)),
        "batch norm": (jc.BatchNormalization(epsilon=1e-5), nn.BatchNorm2d(3), (None, 4, 5, 3)),
        "batch norm bare": (
            jc.BatchNormalization(epsilon=1e-5, center=False, scale=False),
            nn.BatchNorm1d(3, affine=False),
            (None, 4, 3),
        ),
        "group norm": (jc.GroupNormalization(2, epsilon=1e-5), nn.GroupNorm(2, 4), (None, 5, 4)),
        "instance norm": (
            jc.InstanceNormalization(epsilon=1e-5),
            nn.InstanceNorm1d(3, affine=True),
            (None, 6, 3),
        ),
        "layer norm": (jc.LayerNormalization(epsilon=1e-5), nn.LayerNorm(4), (None, 4)),
        "rms norm": (jc.RMSNormalization(epsilon=1e-5), nn.RMSNorm(4, eps=1e-5), (None, 4)),
    }


NAMES = [
    "conv1d", "conv2d groups", "conv3d", "conv1d same", "depthwise", "separable", "transposed",
    "transposed, padding that cuts nothing", "transposed groups", "transposed 3d", "dense", "prelu", "batch norm",
    "batch norm bare", "group norm", "instance norm", "layer norm", "rms norm",
]  # fmt: skip


@pytest.mark.few(3)
@pytest.mark.parametrize("name", NAMES)
def test_a_layer_computes_what_pytorch_s_does_with_its_weights(name):
    compare(*convolutions()[name])


def test_a_whole_net_computes_what_pytorch_s_does():
    nn = pytest.importorskip("torch").nn
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.BatchNorm1d(24),
        nn.Linear(24, 5), nn.Tanh(), nn.Linear(5, 3),
    )  # fmt: skip
    layer = jc.Sequential(
        [
            jc.Conv2D(4, 3, 2, padding=((1, 1), (1, 1))),
            jc.BatchNormalization(epsilon=1e-5),
            jc.ReLU(),
            jc.MaxPooling2D(2),
            jc.Flatten(),
            jc.BatchNormalization(epsilon=1e-5),
            jc.Dense(5, activation="tanh"),
            jc.Dense(3),
        ]
    )
    compare(layer, net, (None, 8, 12, 2))


def test_same_padding_with_stride_two_is_not_pytorch_s_and_pairs_are():
    torch = pytest.importorskip("torch")
    net = torch.nn.Conv1d(1, 1, 3, 2, 1, bias=False)
    x = np.arange(1.0, 7.0, dtype=np.float32)
    with torch.no_grad():
        net.weight.fill_(1)
        want = net(torch.tensor(x[None, None])).numpy().ravel()
    for padding, equal in [("same", False), ((1, 1), True)]:
        layer = jc.Conv1D(1, 3, 2, padding, use_bias=False)
        params = params_from_torch(layer, net.state_dict())
        assert np.array_equal(np.ravel(layer.apply_fn(params, x[None, :, None])), want) is equal
    layer = jc.Sequential([jc.ZeroPadding1D(1), jc.Conv1D(1, 3, 2, use_bias=False)])  # what Keras can open
    got = layer.apply_fn(params_from_torch(layer, net.state_dict()), x[None, :, None])
    assert np.array_equal(np.ravel(got), want)


def test_bfloat16_tensors_keep_their_bits():
    torch = pytest.importorskip("torch")
    net = torch.nn.Linear(3, 2, dtype=torch.bfloat16)
    params = params_from_torch(jc.Dense(2, dtype="bfloat16"), net.state_dict())
    assert params["kernel"].dtype == jnp.bfloat16
    want = net.weight.detach().T.float().numpy()
    np.testing.assert_array_equal(np.asarray(params["kernel"], np.float32), want)
