"""Attribution compared with captum, on the same weights and inputs of random convolution networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxconv.inspect import attribute
from jaxconv.inspect.attribution import METHODS

torch = pytest.importorskip("torch")
captum = pytest.importorskip("captum.attr")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def networks(seed, size):
    """Return the same random network in torch and in JAX, with channels first and pooling windows of ``size``."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    rank, channels, kernel = 1 + seed % 2, int(rng.integers(2, 5)), int(rng.integers(2, 4))
    stride, dilation = (int(n) for n in rng.integers(1, 3, 2))
    conv = getattr(torch.nn, f"Conv{rank}d")
    pool = getattr(torch.nn, f"MaxPool{rank}d")
    one, two = conv(2, channels, kernel, stride), conv(channels, 3, 2, dilation=dilation)
    features = torch.nn.Sequential(one, torch.nn.ReLU(), pool(size, size), two, torch.nn.ReLU(), torch.nn.Flatten())
    x = torch.randn(3, 2, *[16] * rank)
    dense = torch.nn.Linear(features(x).shape[1], 4)
    model = torch.nn.Sequential(*features, dense)
    weights = {name: jnp.asarray(value.detach().numpy()) for name, value in model.named_parameters()}

    def f(x):
        def convolve(x, name, **options):
            y = jax.lax.conv_general_dilated(x, weights[f"{name}.weight"], padding="VALID", **options)
            return y + weights[f"{name}.bias"].reshape(1, -1, *[1] * rank)

        y = jax.nn.relu(convolve(x, "0", window_strides=(stride,) * rank))
        window = (1, 1, *[size] * rank)
        y = jax.lax.reduce_window(y, -jnp.inf, jax.lax.max, window, window, "VALID")
        y = convolve(y, "3", window_strides=(1,) * rank, rhs_dilation=(dilation,) * rank)
        y = jax.nn.relu(y).reshape(len(x), -1)
        return y @ weights["6.weight"].T + weights["6.bias"][None]

    return model, f, x


THEIRS = {
    "gradient": lambda model, x, base: captum.Saliency(model).attribute(x, target=1, abs=False),
    "input_x_gradient": lambda model, x, base: captum.InputXGradient(model).attribute(x, target=1),
    "integrated": lambda model, x, base: captum.IntegratedGradients(model).attribute(x, base, target=1, n_steps=50),
    "guided": lambda model, x, base: captum.GuidedBackprop(model).attribute(x, target=1),
    "deconv": lambda model, x, base: captum.Deconvolution(model).attribute(x, target=1),
    "deeplift": lambda model, x, base: captum.DeepLift(model).attribute(x, base, target=1),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("method", THEIRS)
def test_values_equal_those_of_captum(method, seed):
    model, f, x = networks(seed, 1 if method == "deeplift" else 2)  # its max pooling has a test below
    start = torch.randn(1, *x.shape[1:])
    ours = jnp.asarray(x.numpy())
    np.testing.assert_allclose(f(ours), model(x).detach().numpy(), rtol=1e-4, atol=1e-5)
    expected = THEIRS[method](model, x.clone().requires_grad_(), start.expand_as(x).clone()).detach().numpy()
    options = {"baseline": start.numpy()} if "baseline" in METHODS[method] else {}
    values = attribute(f, ours, 1, method=method, **options).values
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [2, 4])
def test_deeplift_of_max_pooling_is_that_of_captum_until_its_hooks_meet(size):
    torch.manual_seed(size)
    x, start = torch.randn(3, 2, 8), torch.randn(3, 2, 8)
    dense = torch.nn.Linear(16 // size, 1)
    layers = [torch.nn.MaxPool1d(size), torch.nn.Flatten(), dense]
    kernel = jnp.asarray(dense.weight.detach().numpy()).T

    def pooled(x):
        y = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, size), (1, 1, size), "VALID")
        return y.reshape(len(x), -1) @ kernel

    def theirs(*layers):
        model = captum.DeepLift(torch.nn.Sequential(*layers))
        values, delta = model.attribute(x.requires_grad_(), start, target=0, return_convergence_delta=True)
        return values.detach().numpy(), delta.detach().numpy()

    def ours(f):
        return attribute(f, jnp.asarray(x.detach().numpy()), 0, method="deeplift", baseline=start.numpy())

    values, delta = theirs(*layers)
    np.testing.assert_allclose(ours(pooled).values, values, atol=1e-5)
    assert np.abs(delta).max() < 1e-5
    values, delta = theirs(torch.nn.ReLU(), *layers)
    assert np.abs(delta).max() > 0.01
    assert np.abs(ours(lambda x: pooled(jax.nn.relu(x))).delta).max() < 1e-5
    # what captum computes there: the gradient of the pooling, as in the authors' implementation
    now, then = (jax.nn.relu(one.detach().numpy()) for one in (x, start))
    np.testing.assert_allclose(values, (now - then) * jax.grad(lambda y: pooled(y).sum())(now), atol=1e-5)
