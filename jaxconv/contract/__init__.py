"""The contract that every layer keeps: ``Layer``, ``Apply``, windows, masks, symbolic inputs, dtype policies."""
