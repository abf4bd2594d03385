"""Files of models: other formats and our own, to and from ``(layer, params)``. Independent of training."""
