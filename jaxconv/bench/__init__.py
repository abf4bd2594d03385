"""Benchmarks of convolutions, networks and trained models beside other libraries. The entry point is :mod:`.run`."""
