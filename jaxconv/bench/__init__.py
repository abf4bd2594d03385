"""Speed, measured side by side: single convolutions, whole networks and trained models, in jaxconv and around it.

Knows layers, models, files and kernels from outside, as a user does. :mod:`.run` is the way in.
"""
