"""Strategies for the options of layers: sizes, shapes, axes, initializers, regularizers, constraints, activations.

Independent of layers. All sizes are small, because compiling takes most of the time.
"""

import functools

from hypothesis import strategies as st

import jaxconv as jc
from tests.support.keras_oracle import keras

FORMATS = st.sampled_from(["channels_last", "channels_first"])
BATCHES = st.integers(1, 3)
NAMES = sorted({*jc.activations.registry.names()} & {*dir(keras.activations)} - {"threshold"})  # it has no defaults


def some(strategy):
    """Draw None as often as a value."""
    return st.none() | strategy


def sizes(rank, least=1, most=3):
    """Draw one size for each axis, or one for all."""
    return st.integers(least, most) | st.tuples(*[st.integers(least, most)] * rank)


def each(size, rank):
    return (size,) * rank if isinstance(size, int) else size


def factor(least=0.0, most=2.0):
    """Draw a number with three decimals; from floats, hypothesis would mostly draw integers."""
    return st.integers(round(1000 * least), round(1000 * most)).map(lambda n: n / 1000)


def inner_shape(data_format, lengths, channels):
    return (*lengths, channels) if data_format == "channels_last" else (channels, *lengths)


def axes_of(rank, first=0):
    """Draw an axis, positive or negative, or a tuple of axes."""
    one = st.integers(first, rank - 1) | st.integers(first - rank, -1)
    return one | st.lists(st.integers(first, rank - 1), min_size=1, unique=True).map(lambda axes: tuple(sorted(axes)))


@st.composite
def shapes(draw, least=2, most=4, longest=4):
    """Draw a shape, batch first, with a rank from ``least`` to ``most``."""
    return (draw(BATCHES), *draw(st.lists(st.integers(1, longest), min_size=least - 1, max_size=most - 1)))


# -- options of weights


@functools.cache
def initializers(rank):
    ini = jc.initializers
    kinds = ["zeros", "ones", "he_normal", "he_uniform", "lecun_normal", "lecun_uniform", "glorot_normal"]
    kinds += [ini.Constant(0.3), ini.RandomNormal(0.1, 0.2, seed=3), ini.RandomUniform(-0.3, 0.4)]
    kinds += [ini.TruncatedNormal(0.1, 0.2), ini.VarianceScaling(0.7, "fan_out", "untruncated_normal", seed=1)]
    kinds += [ini.Orthogonal(0.5)] if rank > 1 else []
    kinds += [ini.Identity(), ini.Identity(0.5)] if rank == 2 else []
    return st.sampled_from(kinds)


@functools.cache
def regularizers(rank):
    reg = jc.regularizers
    kinds = [st.sampled_from(["l1", "l2", "l1l2"]), st.builds(reg.L1, factor()), st.builds(reg.L2, factor())]
    kinds += [st.builds(reg.L1L2, factor(), factor())]
    kinds += [st.builds(reg.OrthogonalRegularizer, factor(), st.sampled_from(reg.MODES))] if rank == 2 else []
    return some(st.one_of(kinds))


@functools.cache
def constraints(rank):
    con, axes, norm = jc.constraints, axes_of(rank), factor(0.1)
    kinds = [st.sampled_from(["non_neg", "max_norm", "unit_norm", "min_max_norm"])]
    kinds += [st.builds(con.MaxNorm, norm, axes), st.builds(con.UnitNorm, axes)]
    kinds += [st.builds(con.MinMaxNorm, factor(0, 0.5), factor(0.5), factor(0, 1), axes)]
    return some(st.one_of(kinds))


def governed(draw, **ranks):
    """Draw initializer, regularizer and constraint for each weight ``prefix=rank``, and ``trainable``."""
    options = {"trainable": draw(st.sampled_from([True, True, True, False]))}
    for prefix, rank in ranks.items():
        options[f"{prefix}_initializer"] = draw(initializers(rank))
        options[f"{prefix}_regularizer"] = draw(regularizers(rank))
        options[f"{prefix}_constraint"] = draw(constraints(rank))
    return options


def activated(draw, channels):
    """Draw an activation and an activity regularizer."""
    names = [name for name in NAMES if name != "glu" or channels % 2 == 0]
    return {"activation": draw(some(st.sampled_from(names))), "activity_regularizer": draw(regularizers(0))}
