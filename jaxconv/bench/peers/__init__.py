"""One module for each library, which builds the networks of :mod:`jaxconv.bench.networks` with that library.

Each has ``build(network) -> Programs``; those for trained models also have ``load(layer, params, x) -> Loaded``. Only
these modules import the libraries.
"""
