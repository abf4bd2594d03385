"""Model files: reading and writing of ``(layer, params)`` in Keras's formats, safetensors and PyTorch's layout.

Must not import ``jaxconv.training``, nor modules inside ``jaxconv.layers``.
"""
