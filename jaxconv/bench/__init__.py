"""Benchmarks: single convolutions, whole networks and trained models, in jaxconv and in other libraries.

Uses layers, models, files and kernels as a user does. The entry point is :mod:`.run`.
"""
