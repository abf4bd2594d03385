"""Translates jaxconv's error messages to Keras's, which its test cases match. Independent of layers and test cases."""

import contextlib
import re
from collections.abc import Iterator

# (pattern of the facts in jaxconv's message, Keras's message with the groups of the match, Keras's exception type)
WORDS: list[tuple[str, str, type[Exception]]] = [
    # convolutions
    (
        r"(filters|depth_multiplier)=0\b",
        r"Invalid value for argument `\1`. Expected a strictly positive value. Received \1=0.",
        ValueError,
    ),
    (
        r"(kernel_size|strides|dilation_rate)=(\(.*\b0\b.*\)) .* (\d) integers",
        r"The `\1` argument must be a tuple of \3 integers. Received \1=\2, including values {0} that do not satisfy "
        r"`value > 0`",
        ValueError,
    ),
    (
        r"ConvLSTM.*strides=.*dilation_rate=",
        "Specifying `strides > 1` is not compatible with `dilation_rate > 1`",
        ValueError,
    ),
    (
        r"strides=(\(.*?\)) .*dilation_rate=(\(.*?\))",
        r"`strides > 1` not supported in conjunction with `dilation_rate > 1`. Received: strides=\1 and "
        r"dilation_rate=\2",
        ValueError,
    ),
    (
        r"Conv.*: groups=0\b",
        "The number of groups must be a positive integer. Received: groups=0.",
        ValueError,
    ),
    (
        r"filters=(\d+) .*groups=(\d+)",
        r"The number of filters must be evenly divisible by the number of groups. Received: groups=\2, filters=\1.",
        ValueError,
    ),
    (r"Cropping1D: .* by cropping", "`cropping` parameter of `Cropping1D` layer must be smaller than", ValueError),
    (
        r"Cropping[23]D: .* by cropping",
        "Values in `cropping` argument should be smaller than the corresponding spatial dimension of the input.",
        ValueError,
    ),
    (
        r"input of length \d+ .*shortest valid input is \d+",
        "Computed output size would be zero or negative.",
        ValueError,
    ),
    (r"output_padding=.* strides", "`output_padding` must be strictly less than `strides`", ValueError),
    # normalization
    (r"renorm_clipping .*rmin=\S+ .*rmax", "rmax should be greater than or equal to rmin", ValueError),
    (r"renorm_clipping\['dmax'\]=-", "dmax should be non-negative", ValueError),
    (r"renorm_clipping .*?'(\w+)'", r"Received invalid keys: \1", ValueError),
    (r"GroupNormalization: groups=(\S+)", r"Invalid value for argument `groups`: \1", ValueError),
    (r" 4 channels.* groups=5", "cannot be more than the number of channels", ValueError),
    (r" channels.* groups=", "must be a multiple of the number of channels", ValueError),
    (
        r"GroupNormalization: axis \d .*(\(.*\)) .*None",
        r"input tensor should have a defined dimension but the layer received an input with shape \1",
        ValueError,
    ),
    (
        r"LayerNormalization: axis=.* is not one axis",
        "Expected an int or a list/tuple of ints for the argument 'axis'",
        TypeError,
    ),
    (
        r"UnitNormalization: axis=.* is not one axis",
        "Invalid value for `axis` argument: expected an int or a list/tuple of ints.",
        TypeError,
    ),
    (r" kernel .* embeddings", "object has no attribute 'kernel' nor 'embeddings'", ValueError),
    (r"power_iterations=0\b", "`power_iterations` should be greater than zero.", ValueError),
    # reshaping
    (r"(cropping|padding) .* string", r"`\1` should be an integer or a tuple", ValueError),
    (r"UpSampling1D: size=(-?\d+) ", r"`size` should be a positive integer. Received: \1", ValueError),
    (r"UpSampling1D: size", "Expected an integer value for `size`", TypeError),
    (r"Permute: dims=(\(.*?\))", r"Invalid permutation argument `dims`: \1", ValueError),
    (r"RepeatVector: n=(-?\d+) ", r"`n` should be a positive integer. Received: \1", ValueError),
    (r"RepeatVector: n", "Expected an integer value for `n`", TypeError),
    (
        r"target_shape=(\(-1, -1.*?\))",
        r"There must be at most one unknown dimension (-1) in target_shape. Received: target_shape=\1.",
        ValueError,
    ),
    (
        r"target_shape=(\(.*?\))",
        r"Each size must be a non-negative integer or -1. Received: target_shape=\1.",
        ValueError,
    ),
    # merging
    (
        r"Concatenate: .* do not fit",
        "requires inputs with matching shapes except for the concatenation axis",
        ValueError,
    ),
    (r"takes a list of masks", "`mask` should be a list.", ValueError),
    (r"takes a list of inputs", "`inputs` should be a list.", ValueError),
    (r"got \d+ masks for \d+ inputs", "The lists `inputs` and `mask` should have the same length.", ValueError),
    (r"Subtract: takes exactly 2 inputs", "A `Subtract` layer should be called on exactly 2 inputs", ValueError),
    # regularization
    (
        r" rate=(\S+)",
        r"Invalid value received for argument `rate`. Expected a float value between 0 and 1. Received: rate=\1",
        ValueError,
    ),
    (
        r"noise_shape: cannot read",
        "Invalid value received for argument `noise_shape`. Expected a tuple or list of integers.",
        ValueError,
    ),
    (
        r"noise_shape: .* is neither an integer",
        "Invalid value received for argument `noise_shape`. Expected all elements to be integers or None.",
        ValueError,
    ),
    (
        r"noise_shape: .* is negative|noise_shape=.* contains 0",
        "Invalid value received for argument `noise_shape`. Expected all dimensions to be positive integers or None.",
        ValueError,
    ),
    # activations
    (
        r"LeakyReLU: negative_slope=None",
        "The negative_slope value of a Leaky ReLU layer cannot be None or negative value.",
        ValueError,
    ),
    (r"ReLU: max_value=\S+ is not valid", "max_value of a ReLU layer cannot be a negative value.", ValueError),
    (
        r"ReLU: (negative_slope|threshold)=\S+ is not valid",
        r"\1 of a ReLU layer cannot be None or a negative value.",
        ValueError,
    ),
    (
        r"Softmax: mask of shape .* has more axes",
        "The `mask` must be broadcastable to `inputs` and must not have more dimensions.",
        ValueError,
    ),
    (r"Softmax: mask of shape .* does not fit", "The `mask` must be broadcastable to `inputs`.", ValueError),
    # functions by name
    (r"(mode|distribution) '\w+' ", r"Invalid `\1` argument:", ValueError),
    (r"finite.* at least 0", "expected a non-negative float", ValueError),
    (r"scale .*positive", "Argument `scale` must be positive float.", ValueError),
    (r"initial value .*?(\(.*?\))", r"Expected `shape` to be \1", ValueError),
    (
        r"OrthogonalRegularizer: .*mode '(\w+)'",
        r'Invalid value for argument `mode`. Expected one of {"rows", "columns"}. Received: mode=\1',
        ValueError,
    ),
    (
        r"OrthogonalRegularizer: .* rank 2.*?(\(.*?\))",
        r"Inputs to OrthogonalRegularizer must have rank 2. Received: inputs.shape=\1",
        ValueError,
    ),
]


@contextlib.contextmanager
def keras_words() -> Iterator[None]:
    """Raise an error of jaxconv with Keras's message, if the list above has one."""
    try:
        yield
    except (ValueError, TypeError) as error:
        for pattern, words, kind in WORDS:
            match = re.search(pattern, str(error))
            if match:
                raise kind(match.expand(words)) from error
        raise
