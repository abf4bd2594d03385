"""The layers, one file a family. Importing this package enters all of them in the table ``layer.layers``."""

from jaxconv.layers import activation, conv, dense, dropout, normalization, pooling, reshaping

__all__ = ["activation", "conv", "dense", "dropout", "normalization", "pooling", "reshaping"]
