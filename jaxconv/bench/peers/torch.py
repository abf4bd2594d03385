"""The networks, single convolutions and trained models in PyTorch, eager, with channels first."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from jaxconv.bench import cases, networks
from jaxconv.bench.agreement import Loaded
from jaxconv.bench.machine import threads
from jaxconv.bench.peers.torch_graph import Network
from jaxconv.bench.peers.torch_layers import convolution, tensor, transposed_convolution
from jaxconv.bench.programs import LEARNING_RATE, Programs
from jaxconv.bench.timing import Program, repeated
from jaxconv.contract import Layer, Params
from jaxconv.models.container import Container

torch.set_num_threads(threads())


class _Plain(nn.Module):
    """A layer without weights, as a function of a tensor, or of a list of them where branches merge."""

    def __init__(self, function: Callable):
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> torch.Tensor:
        return self.function(x)


class _Net(nn.Module):
    def __init__(self, network: networks.Network):
        super().__init__()
        self.model = network.model
        self.inside = nn.ModuleList(networks.build_in_order(network, _module))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left = iter(self.inside)
        return networks.propagate(self.model, x, lambda _, x: next(left)(x))


def _module(layer: Any, shape: Any) -> nn.Module:
    def ranked(name: str) -> Any:
        return getattr(nn, f"{name}{layer.rank}d")

    kind, channels = networks.kind(layer), shape[-1]
    match kind:
        case "Conv" | "DepthwiseConv":
            filters, groups = (channels, channels) if kind == "DepthwiseConv" else (layer.filters, 1)
            around = (layer.kernel_size[0] - 1) * layer.dilation_rate[0]
            low, high = (around, 0) if layer.padding == "causal" else (around // 2, around - around // 2)
            options = {"dilation": layer.dilation_rate, "groups": groups, "bias": layer.use_bias}
            sizes = (channels, filters, layer.kernel_size, layer.strides)
            if low == high:
                return ranked("Conv")(*sizes, padding=low, **options)
            pads = ranked("ConstantPad")((low, high) * layer.rank, 0.0)
            return nn.Sequential(pads, ranked("Conv")(*sizes, **options))
        case "ConvTranspose":
            around = (layer.kernel_size[0] - layer.strides[0]) // 2
            options = {"padding": around, "bias": False}
            return ranked("ConvTranspose")(channels, layer.filters, layer.kernel_size, layer.strides, **options)
        case "BatchNormalization":
            return getattr(nn, f"BatchNorm{len(shape) - 2}d")(channels)
        case "MaxPooling":
            return ranked("MaxPool")(layer.pool_size)
        case "Dense":
            return nn.Linear(channels, layer.units)
        case "Reshape":
            *lengths, depth = layer.target_shape
            return _Plain(lambda x: x.reshape(len(x), depth, *lengths))
    return _Plain(_PLAIN[kind])


_PLAIN: dict[str, Callable] = {
    "ReLU": functional.relu,
    "Activation": torch.tanh,
    "GlobalAveragePooling": lambda x: x.flatten(2).mean(2),
    "Add": lambda pair: torch.add(*pair),
    "Concatenate": lambda pair: torch.cat(pair, 1),
}


def build(network: networks.Network) -> Programs:
    """Build the network and return its timed programs."""
    torch.manual_seed(0)
    net, (x_last, target_last) = _Net(network), networks.batch(network)
    x, labels = _tensor(x_last), torch.from_numpy(target_last).long() if network.classes else _tensor(target_last)
    optimizer = torch.optim.SGD(net.parameters(), LEARNING_RATE)
    loss = functional.cross_entropy if network.classes else functional.mse_loss

    def infer() -> torch.Tensor:
        net.eval()
        with torch.no_grad():
            return net(x)

    def train() -> None:
        net.train()
        optimizer.zero_grad()
        loss(net(x), labels).backward()
        optimizer.step()

    y = infer()
    shape = np.moveaxis(np.empty(tuple(y.shape)), 1, -1).shape
    parameters = sum(p.numel() for p in net.parameters())
    return Programs(Program(infer), Program(train), parameters, shape)


def convolution_programs(case: cases.Case, operands: cases.Arrays) -> tuple[Callable, Callable]:
    """Return two functions for one convolution: its output; its output and both gradients (PyTorch's axis order)."""
    dtype = getattr(torch, case.dtype)
    x, dy = (_tensor(v).to(dtype) for v in (operands.x, operands.dy))
    spatial = tuple(range(case.rank))
    w = np.flip(operands.w, spatial) if case.transpose else operands.w
    outer = (case.rank, case.rank + 1) if case.transpose else (case.rank + 1, case.rank)
    w = tensor(np.transpose(w, (*outer, *spatial))).to(dtype)
    x.requires_grad_(), w.requires_grad_()
    sizes = (case.strides, case.dilation, case.groups)
    if case.transpose:
        run = transposed_convolution(w, None, operands.pads, operands.dy.shape[1:-1], *sizes)
    else:
        run = convolution(w, None, operands.pads, *sizes)

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return run(x)

    def gradients() -> tuple[torch.Tensor, Any, Any]:
        x.grad = w.grad = None
        y = run(x)
        y.backward(dy)
        return y, x.grad, w.grad

    return forward, gradients


def _tensor(channels_last: np.ndarray) -> torch.Tensor:
    return tensor(np.moveaxis(channels_last, -1, 1))


# -- a trained model


def load(layer: Layer, params: Params, x: Any) -> Loaded:
    """Build a trained model for inputs of the shape of ``x``, to run eagerly in inference mode. Raises Unsupported."""

    def flat(x: Any) -> list[np.ndarray]:
        return layer.flat_inputs(x) if isinstance(layer, Container) else [x]

    network = Network(layer, params, [one.shape for one in flat(x)])
    run = torch.inference_mode()(network.run)
    batch = [network.tensor(one) for one in flat(x)]

    def outputs(x: Any) -> list[np.ndarray]:
        return [network.array(one) for one in run(*map(network.tensor, flat(x)))]

    return Loaded(repeated(lambda: run(*batch)), outputs)
