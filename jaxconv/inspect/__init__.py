"""Look inside models: attribution, receptive fields, curvature and pictures.

Works through the contract and through JAX's own transformations; knows no particular layer.
"""
