"""The TCN of :mod:`jaxconv.bench.stepping` in PyTorch, eager, with the last inputs of each convolution cached."""

from typing import Any

import torch
from torch.nn import functional

from jaxconv.bench.stepping import Stepper, Tcn

torch.set_num_threads(1)  # with two, a step of these networks takes longer


def build_stepper(network: Tcn) -> Stepper:
    """Build the TCN."""
    weights = [
        (torch.from_numpy(kernel).permute(2, 1, 0).contiguous(), torch.from_numpy(bias))
        for kernel, bias in network.weights
    ]

    def start() -> list[torch.Tensor]:
        return [
            torch.zeros(network.batch, kernel.shape[1], (kernel.shape[2] - 1) * network.dilation(number))
            for number, (kernel, _) in enumerate(weights)
        ]

    @torch.inference_mode()
    def step(state: list[torch.Tensor], x: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
        y = before = torch.as_tensor(x).movedim(-1, 1)
        kept = []
        for number, ((kernel, bias), cache) in enumerate(zip(weights, state, strict=True)):
            window = torch.cat([cache, y], 2)
            kept.append(window[:, :, 1:])
            y = functional.relu(functional.conv1d(window, kernel, bias, dilation=network.dilation(number)))
            if number % 2:
                y = before = functional.relu(before + y)
        return y.movedim(1, -1), kept

    return Stepper(start, step)
