"""The networks, single convolutions and trained models in PyTorch, eager, with channels first."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from jaxconv.bench import cases, networks
from jaxconv.bench.agreement import Loaded
from jaxconv.bench.machine import threads
from jaxconv.bench.peers.torch_graph import Network
from jaxconv.bench.peers.torch_kernels import convolution, tensor, transposed_convolution
from jaxconv.bench.programs import LEARNING_RATE, Programs
from jaxconv.bench.timing import Program, repeated
from jaxconv.contract import Layer, Params
from jaxconv.models.container import Container

torch.set_num_threads(threads())


class _Unflatten(nn.Module):
    def __init__(self, shape: Sequence[int]):
        super().__init__()
        self.shape = shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(len(x), *self.shape)


class _Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(2).mean(2)


class _Net(nn.Module):
    def __init__(self, network: networks.Network):
        super().__init__()
        self.body = network.body
        modules = networks.build_in_order(
            network, lambda operation, channels: _module(operation, channels, network.rank)
        )
        self.inside = nn.ModuleList(modules)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left = iter(self.inside)
        return networks.propagate(
            self.body, x, lambda _, x: next(left)(x), torch.add, lambda a, b: torch.cat([a, b], 1)
        )


def _module(operation: Any, channels: int, rank: int) -> nn.Module:
    def ranked(name: str) -> Any:
        return getattr(nn, f"{name}{rank}d")

    match operation:
        case networks.Conv(filters, kernel, strides, dilation, depthwise, causal, bias):
            around = (kernel - 1) * dilation
            low, high = (around, 0) if causal else (around // 2, around - around // 2)
            options = {"stride": strides, "dilation": dilation, "bias": bias, "groups": channels if depthwise else 1}
            filters = channels if depthwise else filters
            if low == high:
                return ranked("Conv")(channels, filters, kernel, padding=low, **options)
            pads = nn.ConstantPad1d((low, high), 0.0) if rank == 1 else ranked("ConstantPad")((low, high) * rank, 0.0)
            return nn.Sequential(pads, ranked("Conv")(channels, filters, kernel, **options))
        case networks.ConvTranspose(filters, kernel, strides):
            around = (kernel - strides) // 2
            return ranked("ConvTranspose")(channels, filters, kernel, strides, padding=around, bias=False)
        case networks.Norm():
            return ranked("BatchNorm")(channels)
        case networks.Relu():
            return nn.ReLU()
        case networks.Tanh():
            return nn.Tanh()
        case networks.Pool():
            return ranked("MaxPool")(2)
        case networks.Mean():
            return _Mean()
        case networks.Dense(units):
            return nn.Linear(channels, units)
        case networks.Unflatten(lengths, depth):
            return _Unflatten((depth, *lengths))
    raise TypeError(f"unknown operation {operation!r}")


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
    w = operands.w
    spatial = range(case.rank)
    if case.transpose:
        w = np.flip(w, spatial)
        w = np.transpose(w, (case.rank, case.rank + 1, *spatial))
    else:
        w = np.transpose(w, (case.rank + 1, case.rank, *spatial))
    w = torch.from_numpy(np.ascontiguousarray(w)).to(dtype)
    x.requires_grad_(), w.requires_grad_()
    run = _transposed(case, operands, x, w) if case.transpose else _forward(case, operands, x, w)

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return run()

    def gradients() -> tuple[torch.Tensor, Any, Any]:
        x.grad = w.grad = None
        y = run()
        y.backward(dy)
        return y, x.grad, w.grad

    return forward, gradients


def _forward(case: cases.Case, operands: cases.Arrays, x: torch.Tensor, w: torch.Tensor) -> Callable:
    run = convolution(w, None, operands.options["padding"], case.strides, case.dilation, case.groups)
    return lambda: run(x)


def _transposed(case: cases.Case, operands: cases.Arrays, x: torch.Tensor, w: torch.Tensor) -> Callable:
    lengths, crops = operands.dy.shape[1:-1], []
    for n, out, k, s, (low, _) in zip(
        case.spatial, lengths, case.kernel, case.strides, operands.options["padding"], strict=True
    ):
        before = k - 1 - low
        crops.append((before, (n - 1) * s + k - out - before))
    run = transposed_convolution(w, None, crops, lengths, case.strides, case.dilation, case.groups)
    return lambda: run(x)


def _tensor(channels_last: np.ndarray) -> torch.Tensor:
    return tensor(np.moveaxis(channels_last, -1, 1))


# -- a trained model


def load(layer: Layer, params: Params, x: Any) -> Loaded:
    """Build a trained model for inputs of the shape of ``x``; it runs eager, in inference mode.

    Raises:
        Unsupported: a layer without an implementation in :mod:`.torch_layers`.
    """

    def flat(x: Any) -> list[np.ndarray]:
        return layer.flat_inputs(x) if isinstance(layer, Container) else [x]

    network = Network(layer, params, [one.shape for one in flat(x)])
    run = torch.inference_mode()(network.run)
    batch = [network.tensor(one) for one in flat(x)]

    def outputs(x: Any) -> list[np.ndarray]:
        return [network.array(one) for one in run(*map(network.tensor, flat(x)))]

    return Loaded(repeated(lambda: run(*batch)), outputs)
