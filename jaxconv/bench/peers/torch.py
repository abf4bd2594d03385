"""The networks, single convolutions and trained models in PyTorch, eager, with channels first."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch
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


def build(network: networks.Network) -> Programs:
    """Build the network and return its timed programs."""
    params, _ = network.model.init(jax.random.key(0), network.shape)
    net, (x_last, target_last) = Network(_symmetric(network.model), params, [network.shape]), networks.batch(network)
    x, target = net.tensor(x_last), tensor(target_last).long() if network.classes else net.tensor(target_last)
    trained = [one.requires_grad_() for name, one in net.weights if not name.startswith("running_")]
    optimizer = torch.optim.SGD(trained, LEARNING_RATE)
    loss = functional.cross_entropy if network.classes else functional.mse_loss

    def train() -> None:
        optimizer.zero_grad()
        loss(net.run(x)[0], target).backward()
        optimizer.step()

    infer = torch.no_grad()(lambda: net.run(x)[0])
    parameters = sum(one.numel() for one in trained)
    return Programs(Program(infer), Program(train), parameters, net.array(infer()).shape)


def _symmetric(layer: Any) -> Any:
    """Return a model whose strided convolutions pad equally before and after, as in PyTorch, without a copy."""
    if isinstance(layer, Container):
        return layer.map_layers(lambda _, child: _symmetric(child))
    if getattr(layer, "padding", "") != "same" or "Transpose" in type(layer).__name__ or max(layer.strides) == 1:
        return layer
    return dataclasses.replace(layer, padding=[((size - 1) // 2,) * 2 for size in layer.kernel_size])


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
