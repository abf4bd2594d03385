"""Files of models: other formats and our own, to and from ``(layer, params)``. Knows nothing of training."""
