"""Every layer with several option sets and an example input shape: what the laws are tested over.

A new layer enters here and is held to all of them; a test fails while a registered class is missing.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxconv as jc
from jaxconv.constraints import MaxNorm, MinMaxNorm, NonNeg, UnitNorm
from jaxconv.layers.layer import Layer
from jaxconv.regularizers import L1, L1L2, L2, OrthogonalRegularizer

FIRST = "channels_first"


class Case(NamedTuple):
    """A layer and the shape of an input for it, batch first."""

    layer: Layer
    shape: tuple[int, ...]


SEQUENCE, IMAGE, VOLUME = (2, 7, 4), (2, 6, 5, 4), (2, 4, 5, 3, 2)

CASES: dict[str, Case] = {
    # one dimension
    "conv1d": Case(jc.Conv1D(3, 3), SEQUENCE),
    "conv1d_causal": Case(jc.Conv1D(3, 2, padding="causal", dilation_rate=3, activation="tanh"), SEQUENCE),
    "conv1d_causal_strided_first": Case(jc.Conv1D(3, 3, 2, "causal", FIRST, activation="relu"), (2, 4, 7)),
    "conv1d_groups": Case(jc.Conv1D(6, 3, padding="same", groups=2, use_bias=False), SEQUENCE),
    "conv1d_pads": Case(jc.Conv1D(3, 3, 2, padding=(0, 4), name="padded", input_shape=(7, 4)), SEQUENCE),
    "conv1d_penalised": Case(
        jc.Conv1D(3, 2, kernel_regularizer=L1L2(0.1, 0.2), bias_regularizer="l2", activity_regularizer=L2(0.3)),
        SEQUENCE,
    ),
    "conv1d_constrained": Case(
        jc.Conv1D(4, 2, kernel_constraint=MaxNorm(0.5, axis="filter"), bias_constraint="non_neg", groups=2), SEQUENCE
    ),
    "conv1d_frozen": Case(
        jc.Conv1D(3, 2, trainable=False, kernel_regularizer="l2", kernel_constraint="unit_norm"), SEQUENCE
    ),
    "conv1d_softmax_first": Case(jc.Conv1D(4, 2, data_format=FIRST, activation="softmax"), (2, 4, 7)),
    "conv1d_glu": Case(jc.Conv1D(6, 2, padding="same", activation="glu", bias_initializer="ones"), SEQUENCE),
    "conv1d_mixed_bfloat16": Case(jc.Conv1D(3, 3, dtype="mixed_bfloat16", activity_regularizer="l1"), SEQUENCE),
    "conv1d_float16": Case(jc.Conv1D(3, 3, dtype="float16", kernel_regularizer="l2"), SEQUENCE),
    # two dimensions
    "conv2d": Case(jc.Conv2D(3, (3, 2), strides=(2, 1), activation="gelu"), IMAGE),
    "conv2d_same_first": Case(jc.Conv2D(3, 3, 2, "same", FIRST, activation="elu"), (2, 4, 6, 5)),
    "conv2d_depthwise": Case(jc.Conv2D(8, 2, dilation_rate=(2, 1), groups=4, kernel_initializer="he_normal"), IMAGE),
    "conv2d_pads": Case(jc.Conv2D(2, 2, padding=((1, 0), (0, 2)), kernel_constraint=UnitNorm("filter")), IMAGE),
    "conv2d_orthogonal": Case(
        jc.Conv2D(3, 2, kernel_regularizer=OrthogonalRegularizer(0.5, axis="filter")),
        IMAGE,
    ),
    # three dimensions
    "conv3d": Case(jc.Conv3D(3, 2, activation="relu"), VOLUME),
    "conv3d_same_first": Case(jc.Conv3D(2, (1, 3, 2), (2, 1, 2), "same", FIRST, use_bias=False), (2, 2, 4, 5, 3)),
    "conv3d_groups": Case(
        jc.Conv3D(
            4, 2, padding="SAME", dilation_rate=2, groups=2, kernel_constraint=MinMaxNorm(0.2, 0.4, axis="filter")
        ),
        VOLUME,
    ),
    # without a window
    "dense": Case(jc.Dense(3, activation="sigmoid", kernel_regularizer=L2(0.1), bias_regularizer=L1(0.1)), (2, 4)),
    "dense_sequence": Case(jc.Dense(3, use_bias=False, kernel_constraint=NonNeg()), SEQUENCE),
    "dense_mixed_float16": Case(jc.Dense(3, dtype="mixed_float16", kernel_constraint=MaxNorm(0.5)), (2, 4)),
    "activation": Case(jc.Activation("softplus", activity_regularizer=L2(0.1)), SEQUENCE),
    "activation_softmax": Case(jc.Activation("softmax"), SEQUENCE),
    "activation_glu": Case(jc.Activation("glu", dtype="bfloat16"), SEQUENCE),
    "flatten": Case(jc.Flatten(), IMAGE),
    "flatten_first": Case(jc.Flatten(FIRST), (2, 4, 6, 5)),
    "dropout": Case(jc.Dropout(0.4), SEQUENCE),
    "dropout_noise_shape": Case(jc.Dropout(0.5, noise_shape=(None, 1, 4), seed=3), SEQUENCE),
    "dropout_nothing": Case(jc.Dropout(0), SEQUENCE),
    "dropout_all": Case(jc.Dropout(1.0), SEQUENCE),
    "cropping1d": Case(jc.Cropping1D((2, 1)), SEQUENCE),
    "cropping2d": Case(jc.Cropping2D(((1, 0), (0, 2)), FIRST), (2, 4, 6, 5)),
    "cropping3d": Case(jc.Cropping3D((1, 2, 1)), VOLUME),
    # statistics
    "batch_normalization": Case(jc.BatchNormalization(), IMAGE),
    "batch_normalization_first": Case(
        jc.BatchNormalization(1, momentum=0.8, gamma_regularizer="l2", beta_constraint="non_neg"), (2, 4, 7)
    ),
    "batch_normalization_frozen": Case(jc.BatchNormalization(trainable=False, gamma_regularizer="l1"), SEQUENCE),
    "batch_normalization_bare": Case(jc.BatchNormalization(center=False, scale=False, epsilon=0.1), (2, 4)),
    "batch_normalization_mixed": Case(jc.BatchNormalization(dtype="mixed_bfloat16"), SEQUENCE),
    # pooling
    "max_pooling1d": Case(jc.MaxPooling1D(3, 2, "same"), SEQUENCE),
    "max_pooling2d": Case(jc.MaxPooling2D((3, 2), data_format=FIRST), (2, 4, 6, 5)),
    "max_pooling3d": Case(jc.MaxPooling3D(2, (1, 2, 1)), VOLUME),
    "average_pooling1d": Case(jc.AveragePooling1D(3, 2, "same", FIRST), (2, 4, 7)),
    "average_pooling2d": Case(jc.AveragePooling2D((3, 2), 1, "same"), IMAGE),
    "average_pooling3d": Case(jc.AveragePooling3D(2, dtype="float16"), VOLUME),
    "global_max_pooling1d": Case(jc.GlobalMaxPooling1D(), SEQUENCE),
    "global_max_pooling2d": Case(jc.GlobalMaxPooling2D(FIRST, keepdims=True), (2, 4, 6, 5)),
    "global_max_pooling3d": Case(jc.GlobalMaxPooling3D(), VOLUME),
    "global_average_pooling1d": Case(jc.GlobalAveragePooling1D(keepdims=True), SEQUENCE),
    "global_average_pooling2d": Case(jc.GlobalAveragePooling2D(), IMAGE),
    "global_average_pooling3d": Case(jc.GlobalAveragePooling3D(FIRST, dtype="bfloat16"), (2, 2, 4, 5, 3)),
    # containers
    "sequential_empty": Case(jc.Sequential([]), SEQUENCE),
    "sequential": Case(
        jc.Sequential(
            [
                jc.Conv1D(4, 3, padding="causal", kernel_regularizer="l2", kernel_constraint=MaxNorm(0.7, "filter")),
                jc.BatchNormalization(),
                jc.Activation("elu", activity_regularizer="l2"),
                jc.Dropout(0.3),
                jc.Conv1D(3, 2, name="second", trainable=False),
                jc.GlobalAveragePooling1D(),
                jc.Dense(2, activation="log_softmax"),
            ]
        ),
        SEQUENCE,
    ),
    "sequential_nested": Case(
        jc.Sequential(
            [
                jc.Sequential([jc.Conv2D(3, 2, activation="swish"), jc.Conv2D(3, 1)], name="block"),
                jc.Sequential([jc.BatchNormalization(), jc.Dropout(0.2)], trainable=False),
                jc.MaxPooling2D(2),
                jc.Flatten(),
                jc.Dense(2),
            ],
            name="nested",
        ),
        IMAGE,
    ),
    "sequential_mixed": Case(
        jc.Sequential([jc.Conv1D(3, 2), jc.BatchNormalization(), jc.Dense(2, dtype="float32")], dtype="mixed_bfloat16"),
        SEQUENCE,
    ),
}


def inputs(shape: tuple[int, ...], seed: int = 1, dtype: Any = jnp.float32) -> jax.Array:
    """Give a random input of this shape."""
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def randomised(params: Any, seed: int = 2) -> Any:
    """Give params in which no leaf is zero or one: positive values, so that a variance stays one."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), max(len(leaves), 1))
    return jax.tree.unflatten(
        tree,
        [v * 0.5 + 0.2 + 0.3 * jax.random.uniform(k, v.shape, v.dtype) for k, v in zip(keys, leaves, strict=False)],
    )


def tolerance(layer: Layer) -> float:
    """Give the relative error to allow: a few dozen rounding errors of the coarsest type that the layer computes in."""
    coarse = [float(jnp.finfo(leaf.policy.compute).eps) for leaf in flat(layer)]
    return 40 * max([*coarse, float(jnp.finfo(jnp.float32).eps)])


def flat(layer: Layer) -> list[Layer]:
    """List the layers inside, or the layer itself."""
    return [leaf for child in layer.children.values() for leaf in flat(child)] if layer.children else [layer]


def rebuilt(layer: Layer, change: Any) -> Layer:
    """Build the layer again with ``change(layer) -> dict of options`` applied to it and to every layer inside."""
    if isinstance(layer, jc.Sequential):
        return dataclasses.replace(
            layer, layers=tuple(rebuilt(child, change) for child in layer.layers), **change(layer)
        )
    return dataclasses.replace(layer, **change(layer))


def in_float64(layer: Layer) -> Layer:
    """Give the layer with every policy float64."""
    return rebuilt(layer, lambda _: {"dtype": "float64"})


def in_other_format(layer: Layer) -> Layer:
    """Give the layer for the other data format."""

    def change(one: Layer) -> dict[str, Any]:
        if isinstance(one, jc.BatchNormalization):
            return {"axis": -1 if one.axis == 1 else 1}
        if hasattr(one, "data_format"):
            return {
                "data_format": FIRST if one.data_format == "channels_last" else "channels_last",
                "input_shape": None,
            }
        return {}

    return rebuilt(layer, change)
