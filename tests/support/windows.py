"""The inputs that each output of a window reads, from the definition."""

import numpy as np


def reads(window, length):
    """Return which inputs each output reads, a matrix (outputs, inputs), from the definition."""
    total = window.output_length(length)
    before = window.pads(length)[0]
    matrix = np.zeros((total, length), bool)
    for t in range(total):
        for j in range(window.size):
            i, rest = t * window.stride + j * window.dilation - before, 0
            if window.transposed:
                i, rest = divmod(t + before - j * window.dilation, window.stride)
            if 0 <= i < length and rest == 0:
                matrix[t, i] = True
    return matrix
