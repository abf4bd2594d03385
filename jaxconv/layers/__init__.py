"""The layers, one file for each family. Importing a file registers its layers in ``jaxconv.contract.layers``.

The package root imports every family for its public names, so the registry is complete regardless of import order.
"""
