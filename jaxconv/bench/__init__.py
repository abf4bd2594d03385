"""Benchmarks of convolutions, networks and trained models in several libraries. The entry point is :mod:`.run`."""
