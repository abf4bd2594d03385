"""One module for each library: how it builds a network of :mod:`jaxconv.bench.networks`, in its own manner.

Each has ``measure(network) -> Measured``, and those that can take a trained model ``load(layer, params, x) -> Loaded``.
Imports its library, which nothing else here does. PyTorch, which has to be told every layer, has several.
"""
