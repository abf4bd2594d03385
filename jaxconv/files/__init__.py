"""Files of models: other formats and our own, to and from ``(layer, params)``.

Knows layers and params. It does not know how they were trained.
"""
