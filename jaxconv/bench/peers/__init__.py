"""One module for each library: how it builds a network of :mod:`jaxconv.bench.networks`, in its own manner.

Each has ``measure(network) -> Measured``. Imports its library, which nothing else here does.
"""
