"""Benchmarks of convolutions, networks and trained models compared with other libraries. The entry point is :mod:`.run`."""
