"""Oracles, builders and the catalogue of layers that the tests share."""
