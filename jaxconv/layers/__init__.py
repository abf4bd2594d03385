"""The layers, one file a family. Each registers itself in the table ``layers`` of the contract when it is imported.

The package root imports every family for its public names, so the table is complete whatever is imported first.
"""
