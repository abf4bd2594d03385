"""Speed, measured side by side: single convolutions and whole networks, in jaxconv and in the libraries around it.

Knows layers, models and kernels from outside, as a user does. :mod:`.run` is the way in.
"""
