"""Every layer with several option sets and an example input shape, over which the laws are tested.

A new layer enters here and is held to all of them; a test fails while a registered class is missing.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxconv as jc
from jaxconv.constraints import MaxNorm, MinMaxNorm, NonNeg, UnitNorm
from jaxconv.contract import Layer
from jaxconv.regularizers import L1, L1L2, L2, OrthogonalRegularizer

FIRST = "channels_first"


class Case(NamedTuple):
    """A layer and the shape of an input for it, batch first; a list of shapes for a layer of several inputs."""

    layer: Layer
    shape: Any

    def __hash__(self) -> int:
        return hash((self.layer, repr(self.shape)))


SEQUENCE, IMAGE, VOLUME = (2, 7, 4), (2, 6, 5, 4), (2, 4, 5, 3, 2)


def map_shapes(change: Any, shape: Any) -> Any:
    """Return ``change(shape)``, or the list or dict of it over a list or dict of shapes."""
    if isinstance(shape, dict):
        return {key: map_shapes(change, one) for key, one in shape.items()}
    return [map_shapes(change, one) for one in shape] if isinstance(shape, list) else change(shape)


def siamese() -> jc.Model:
    """Return a model of two inputs with a shared encoder that holds a statistic."""
    left, right = jc.Input((None, 2), name="left"), jc.Input((None, 2), name="right")
    conv, norm, pool = jc.Conv1D(3, 2, kernel_regularizer="l2"), jc.BatchNormalization(), jc.GlobalAveragePooling1D()
    return jc.Model([left, right], jc.Dot(1)([pool(norm(conv(x))) for x in (left, right)]))


def two_outputs() -> jc.Model:
    """Return a model that takes and gives a dict, with a Sequential and a Model of two outputs inside."""
    x, y = jc.Input((4, 2), name="x"), jc.Input((3,), name="y")
    h = jc.Input((4, 3))
    heads = jc.Model(h, [jc.Conv1D(2, 1)(h), jc.Dropout(0.3)(h)])
    inside = [jc.Conv1D(3, 3, padding="causal"), jc.Activation("tanh", activity_regularizer="l1")]
    stack = jc.Sequential(inside, input_shape=(4, 2))
    small, dropped = heads(jc.Add()([stack(x), y]))
    return jc.Model({"x": x, "y": y}, {"a": [small, dropped], "b": jc.Flatten()(small)}, name="two")


def quotient(divide: Layer) -> jc.Model:
    """Return a model that divides its input by something that is not zero."""
    x = jc.Input((None, SEQUENCE[-1]))
    return jc.Model(x, divide([x, jc.Activation("exponential")(x)]))


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
    # the rest of the family
    "conv1d_reflected": Case(jc.Conv1D(3, 3, padding="same", padding_mode="reflect"), SEQUENCE),
    "conv1d_strided_dilated": Case(jc.Conv1D(3, 2, 2, dilation_rate=2, strides_with_dilation=True), SEQUENCE),
    "conv2d_causal_rows": Case(jc.Conv2D(2, 2, padding=("causal", "same"), activation="tanh"), IMAGE),
    "conv1d_transpose": Case(jc.Conv1DTranspose(3, 3, 2, "same", activation="tanh"), SEQUENCE),
    "conv1d_transpose_groups": Case(
        jc.Conv1DTranspose(4, 3, 2, output_padding=1, groups=2, kernel_constraint=MaxNorm(0.5, axis="filter")), SEQUENCE
    ),
    "conv2d_transpose_first": Case(
        jc.Conv2DTranspose(3, (2, 3), (2, 1), "same", (1, 0), FIRST, kernel_regularizer="l2"), (2, 4, 3, 4)
    ),
    "conv3d_transpose": Case(jc.Conv3DTranspose(2, 2, dilation_rate=2, dtype="mixed_bfloat16"), (2, 2, 3, 2, 2)),
    "depthwise_conv1d_causal": Case(jc.DepthwiseConv1D(3, 2, "causal", 2, activation="relu"), SEQUENCE),
    "depthwise_conv2d_first": Case(
        jc.DepthwiseConv2D(2, padding="same", data_format=FIRST, depthwise_constraint=UnitNorm("filter")), (2, 4, 6, 5)
    ),
    "depthwise_conv3d": Case(jc.DepthwiseConv3D(2, use_bias=False, depthwise_regularizer=L1(0.1)), VOLUME),
    "separable_conv1d": Case(jc.SeparableConv1D(3, 3, padding="same", depth_multiplier=2), SEQUENCE),
    "separable_conv2d_first": Case(
        jc.SeparableConv2D(3, 2, 2, data_format=FIRST, pointwise_regularizer="l2", bias_constraint="non_neg"),
        (2, 4, 6, 5),
    ),
    "separable_conv3d": Case(jc.SeparableConv3D(2, 2, activation="gelu"), VOLUME),
    "locally_connected1d": Case(jc.LocallyConnected1D(3, 2, 2, activation="tanh"), SEQUENCE),
    "locally_connected2d_first": Case(jc.LocallyConnected2D(2, 2, data_format=FIRST, padding="same"), (2, 3, 4, 3)),
    "locally_connected3d": Case(jc.LocallyConnected3D(2, 2, 2, use_bias=False), VOLUME),
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
    "spatial_dropout1d": Case(jc.SpatialDropout1D(0.4), SEQUENCE),
    "spatial_dropout1d_first": Case(jc.SpatialDropout1D(0.4, seed=2, data_format=FIRST), (2, 4, 7)),
    "spatial_dropout2d": Case(jc.SpatialDropout2D(0.4, FIRST), (2, 4, 6, 5)),
    "spatial_dropout3d": Case(jc.SpatialDropout3D(0.4, dtype="bfloat16"), VOLUME),
    "alpha_dropout": Case(jc.AlphaDropout(0.3, noise_shape=(None, 1, 4)), SEQUENCE),
    "gaussian_dropout": Case(jc.GaussianDropout(0.3, seed=1), SEQUENCE),
    "gaussian_noise": Case(jc.GaussianNoise(0.3), SEQUENCE),
    "activity_regularization": Case(jc.ActivityRegularization(0.1, 0.2), SEQUENCE),
    "identity": Case(jc.Identity(), SEQUENCE),
    "relu": Case(jc.ReLU(1.0, 0.2, 0.1), SEQUENCE),
    "leaky_relu": Case(jc.LeakyReLU(), SEQUENCE),
    "elu": Case(jc.ELU(0.7), SEQUENCE),
    "softmax_layer": Case(jc.Softmax((1, 2), dtype="mixed_float16"), SEQUENCE),
    "prelu": Case(jc.PReLU(alpha_regularizer="l2", alpha_constraint="non_neg"), SEQUENCE),
    "prelu_shared": Case(jc.PReLU("he_normal", shared_axes=[1, 2]), IMAGE),
    "cropping1d": Case(jc.Cropping1D((2, 1)), SEQUENCE),
    "cropping2d": Case(jc.Cropping2D(((1, 0), (0, 2)), FIRST), (2, 4, 6, 5)),
    "cropping3d": Case(jc.Cropping3D((1, 2, 1)), VOLUME),
    "zero_padding1d": Case(jc.ZeroPadding1D((2, 1)), SEQUENCE),
    "zero_padding2d": Case(jc.ZeroPadding2D(((1, 0), (0, 2)), FIRST), (2, 4, 6, 5)),
    "zero_padding3d": Case(jc.ZeroPadding3D((1, 2, 1), dtype="float16"), VOLUME),
    "up_sampling1d": Case(jc.UpSampling1D(3), SEQUENCE),
    "up_sampling1d_line": Case(jc.UpSampling1D(2, FIRST, "bilinear"), (2, 4, 7)),
    "up_sampling2d": Case(jc.UpSampling2D((2, 3), FIRST), (2, 4, 6, 5)),
    "up_sampling2d_bilinear": Case(jc.UpSampling2D(2, interpolation="bilinear"), (2, 3, 4, 2)),
    "up_sampling2d_bicubic": Case(jc.UpSampling2D((1, 2), interpolation="bicubic", dtype="bfloat16"), (2, 3, 4, 2)),
    "up_sampling3d": Case(jc.UpSampling3D((1, 2, 1)), VOLUME),
    "reshape": Case(jc.Reshape((2, -1)), IMAGE),
    "reshape_vector": Case(jc.Reshape([28]), SEQUENCE),
    "permute": Case(jc.Permute((3, 1, 2)), IMAGE),
    "repeat_vector": Case(jc.RepeatVector(3), (2, 4)),
    # several inputs
    "add": Case(jc.Add(), [SEQUENCE, SEQUENCE, (2, 4)]),
    "subtract": Case(jc.Subtract(dtype="float16"), [SEQUENCE, (2, 1, 4)]),
    "multiply": Case(jc.Multiply(), [SEQUENCE, (2, 7, 1)]),
    "average": Case(jc.Average(), [SEQUENCE, SEQUENCE, SEQUENCE]),
    "divide": Case(quotient(jc.Divide()), SEQUENCE),
    "reciprocal": Case(jc.Sequential([jc.Activation("exponential"), jc.Reciprocal(2.5)]), SEQUENCE),
    "get_item": Case(jc.GetItem((slice(None), slice(2, None), slice(None, -1))), SEQUENCE),
    "get_item_of_axes": Case(jc.GetItem((..., None, 1)), IMAGE),
    "maximum": Case(jc.Maximum(), [(2, 4), (2, 4)]),
    "minimum": Case(jc.Minimum(dtype="bfloat16"), [(2, 4), (2, 4)]),
    "concatenate": Case(jc.Concatenate(), [SEQUENCE, (2, 7, 2), (2, 7, 1)]),
    "concatenate_first": Case(jc.Concatenate(1), [(2, 3, 2, 2), (2, 1, 2, 2)]),
    "dot": Case(jc.Dot((1, 2)), [(2, 3, 5), (2, 4, 3)]),
    "dot_normalize": Case(jc.Dot(-1, normalize=True), [(2, 5), (2, 5)]),
    "multi_head_attention": Case(
        jc.MultiHeadAttention(2, 3, dropout=0.2, kernel_regularizer="l2", bias_constraint="non_neg"),
        [SEQUENCE, SEQUENCE],
    ),
    "multi_head_attention_causal": Case(
        jc.MultiHeadAttention(2, 2, 3, use_gate=True, activity_regularizer="l2", use_causal_mask=True),
        [SEQUENCE, SEQUENCE, (2, 7, 3)],
    ),
    "multi_head_attention_cross": Case(
        jc.MultiHeadAttention(1, 3, use_bias=False, output_size=[2, 3], dtype="mixed_bfloat16"), [SEQUENCE, (2, 5, 3)]
    ),
    "multi_head_attention_frames": Case(
        jc.MultiHeadAttention(2, 2, attention_axes=2, sliding_window=2, trainable=False), [(2, 7, 3, 4), (2, 7, 5, 2)]
    ),
    # statistics
    "batch_normalization": Case(jc.BatchNormalization(), IMAGE),
    "batch_normalization_first": Case(
        jc.BatchNormalization(1, momentum=0.8, gamma_regularizer="l2", beta_constraint="non_neg"), (2, 4, 7)
    ),
    "batch_normalization_frozen": Case(jc.BatchNormalization(trainable=False, gamma_regularizer="l1"), SEQUENCE),
    "batch_normalization_bare": Case(jc.BatchNormalization(center=False, scale=False, epsilon=0.1), (2, 4)),
    "batch_normalization_mixed": Case(jc.BatchNormalization(dtype="mixed_bfloat16"), SEQUENCE),
    "batch_normalization_renorm": Case(
        jc.BatchNormalization(renorm=True, renorm_clipping={"rmax": 1.2, "rmin": 0.8, "dmax": 0.3}, momentum=0.8),
        SEQUENCE,
    ),
    "layer_normalization": Case(jc.LayerNormalization(gamma_regularizer="l2", beta_constraint="non_neg"), SEQUENCE),
    "layer_normalization_axes": Case(jc.LayerNormalization([1, -1], 0.1, dtype="mixed_float16"), IMAGE),
    "rms_normalization": Case(jc.RMSNormalization(axis=1, epsilon=0.1), SEQUENCE),
    "unit_normalization": Case(jc.UnitNormalization((1, 2)), SEQUENCE),
    "group_normalization": Case(jc.GroupNormalization(2, gamma_constraint="unit_norm"), IMAGE),
    "group_normalization_first": Case(jc.GroupNormalization(2, 1, center=False, dtype="mixed_bfloat16"), (2, 4, 7)),
    "instance_normalization": Case(jc.InstanceNormalization(beta_regularizer="l1"), SEQUENCE),
    "spectral_normalization": Case(jc.SpectralNormalization(jc.Conv1D(3, 2, kernel_regularizer="l2"), 2), SEQUENCE),
    "spectral_normalization_frozen": Case(
        jc.SpectralNormalization(jc.Conv2D(2, 2, data_format=FIRST), trainable=False), (2, 4, 6, 5)
    ),
    "spectral_normalization_embedding": Case(jc.SpectralNormalization(jc.Embedding(5, 3)), (2, 4)),
    "weight_normalization": Case(jc.WeightNormalization(jc.Conv1D(3, 2, kernel_regularizer="l2")), SEQUENCE),
    "weight_normalization_frozen_inside": Case(
        jc.WeightNormalization(jc.Conv2D(2, 2, trainable=False, activation="relu"), name="normed"), IMAGE
    ),
    # steps of a sequence
    "time_distributed": Case(jc.TimeDistributed(jc.Dense(3, kernel_regularizer="l2")), SEQUENCE),
    "time_distributed_image": Case(
        jc.TimeDistributed(jc.Conv2D(3, 2, data_format=FIRST, kernel_constraint=MaxNorm(0.5))), (2, 3, 4, 6, 5)
    ),
    "time_distributed_frozen": Case(
        jc.TimeDistributed(jc.BatchNormalization(), trainable=False, dtype="mixed_bfloat16"), (2, 3, 5, 4)
    ),
    "time_distributed_model": Case(
        jc.TimeDistributed(jc.Sequential([jc.Conv1D(3, 2), jc.Dropout(0.3), jc.Flatten(), jc.Dense(2)])), (2, 3, 4, 2)
    ),
    "time_distributed_flatten": Case(jc.TimeDistributed(jc.Flatten(), name="flat"), IMAGE),
    # recurrent
    "simple_rnn": Case(jc.SimpleRNN(3, return_sequences=True, recurrent_regularizer="l2"), SEQUENCE),
    "lstm_initial_state": Case(jc.LSTM(3, return_sequences=True), [SEQUENCE, (2, 3), (2, 3)]),
    "simple_rnn_last": Case(jc.SimpleRNN(3, recurrent_constraint=MaxNorm(0.5, axis="filter"), unroll=True), SEQUENCE),
    "lstm": Case(jc.LSTM(3, return_sequences=True, dropout=0.3, recurrent_dropout=0.2), SEQUENCE),
    "lstm_last": Case(
        jc.LSTM(3, activation="softsign", bias_constraint="non_neg", activity_regularizer="l2"), SEQUENCE
    ),
    "lstm_backwards": Case(jc.LSTM(2, go_backwards=True, return_sequences=True, zero_output_for_mask=True), SEQUENCE),
    "lstm_mixed_bfloat16": Case(jc.LSTM(3, return_sequences=True, dtype="mixed_bfloat16"), SEQUENCE),
    "gru": Case(jc.GRU(3, return_sequences=True, activity_regularizer="l1"), SEQUENCE),
    "gru_reset_before": Case(jc.GRU(3, reset_after=False, dropout=0.2, trainable=False), SEQUENCE),
    "gru_without_bias": Case(jc.GRU(2, use_bias=False, go_backwards=True, dtype="float16"), SEQUENCE),
    "bidirectional": Case(
        jc.Bidirectional(jc.LSTM(2, return_sequences=True, dropout=0.2, kernel_regularizer="l2")), SEQUENCE
    ),
    "bidirectional_states": Case(jc.Bidirectional(jc.GRU(2, return_sequences=True)), [SEQUENCE, (2, 2), (2, 2)]),
    "bidirectional_sum": Case(jc.Bidirectional(jc.GRU(3, activity_regularizer="l2"), "sum", trainable=False), SEQUENCE),
    "bidirectional_other": Case(
        jc.Bidirectional(jc.SimpleRNN(2), backward_layer=jc.LSTM(3, go_backwards=True), dtype="mixed_bfloat16"),
        SEQUENCE,
    ),
    "conv_lstm1d": Case(
        jc.ConvLSTM1D(2, 2, padding="same", return_sequences=True, dropout=0.2, recurrent_regularizer="l2"),
        (2, 3, 4, 2),
    ),
    "conv_lstm1d_first": Case(jc.ConvLSTM1D(2, 2, 2, data_format=FIRST, go_backwards=True), (2, 3, 2, 4)),
    "conv_lstm2d": Case(
        jc.ConvLSTM2D(2, 2, data_format=FIRST, return_sequences=True, kernel_constraint=MaxNorm(0.5)), (2, 3, 2, 4, 3)
    ),
    "conv_lstm3d": Case(jc.ConvLSTM3D(1, 2, dilation_rate=(1, 2, 1), dtype="mixed_bfloat16"), (2, 2, 3, 3, 2, 1)),
    # fixed maps, tables
    "rescaling": Case(jc.Rescaling(0.5, -1), SEQUENCE),
    "rescaling_first": Case(jc.Rescaling([0.5, 2, 1, 3], 1.5, data_format=FIRST), (2, 4, 7)),
    "normalization": Case(jc.Normalization(-1, [0.5, 1, 2, 3], [1, 2, 3, 4.5]), SEQUENCE),
    "normalization_inverted": Case(jc.Normalization(None, 2, 9, invert=True, dtype="mixed_bfloat16"), SEQUENCE),
    "embedding": Case(jc.Embedding(5, 3, embeddings_regularizer="l2", activity_regularizer="l1"), (2, 4)),
    "embedding_constrained": Case(
        jc.Embedding(5, 3, embeddings_constraint=MaxNorm(0.2, axis="filter"), dtype="mixed_bfloat16"), SEQUENCE
    ),
    "embedding_mask_zero": Case(jc.Embedding(5, 3, mask_zero=True), (2, 7)),
    "masking": Case(jc.Masking(0.5), SEQUENCE),
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
    "adaptive_max_pooling1d": Case(jc.AdaptiveMaxPooling1D(3), SEQUENCE),
    "adaptive_max_pooling2d": Case(jc.AdaptiveMaxPooling2D((3, 2), FIRST), (2, 4, 6, 5)),
    "adaptive_max_pooling3d": Case(jc.AdaptiveMaxPooling3D((3, 2, 4), dtype="bfloat16"), VOLUME),
    "adaptive_average_pooling1d": Case(jc.AdaptiveAveragePooling1D(9, dtype="mixed_float16"), SEQUENCE),
    "adaptive_average_pooling2d": Case(jc.AdaptiveAveragePooling2D((3, 2)), IMAGE),
    "adaptive_average_pooling3d": Case(jc.AdaptiveAveragePooling3D(2, FIRST), (2, 2, 4, 5, 3)),
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
    "model_siamese": Case(siamese(), [(3, 5, 2), (3, 4, 2)]),
    "model_two_outputs": Case(two_outputs(), {"x": (2, 4, 2), "y": (2, 3)}),
    "model_of_a_residual": Case(
        jc.Model(x := jc.Input((None, 3)), jc.Residual([jc.Conv1D(3, 3, padding="same")])(x), dtype="mixed_bfloat16"),
        (2, 5, 3),
    ),
    "residual": Case(
        jc.Residual([jc.Conv1D(3, 3, padding="causal", activation="tanh"), jc.BatchNormalization()], jc.Conv1D(3, 1)),
        SEQUENCE,
    ),
    "residual_of_the_input": Case(jc.Residual([jc.Dropout(0.3), jc.Dense(4)], trainable=False), (2, 4)),
    "parallel": Case(
        jc.Parallel([jc.Conv1D(2, 1), [jc.MaxPooling1D(3, 1, "same"), jc.Conv1D(3, 3, padding="same")]]), SEQUENCE
    ),
    "parallel_multiply": Case(
        jc.Parallel([jc.Dense(3), jc.Dense(3, "sigmoid", kernel_constraint="non_neg")], "multiply", name="gate"), (2, 4)
    ),
}


# what laws ask of a case beyond its layer
TAGS: dict[str, set[str]] = {
    # the other data format would be another layer
    "one_format": {
        "dropout_noise_shape",
        "time_distributed",
        "time_distributed_image",
        "time_distributed_frozen",
        "time_distributed_model",
        "time_distributed_flatten",
        "conv_lstm1d",
        "conv_lstm1d_first",
        "conv_lstm2d",
        "conv_lstm3d",
        "sequential_empty",
        "sequential",
        "sequential_mixed",
    },
    # training differentiates something else than its value: it takes its statistics as constants
    "stop_gradient": {"batch_normalization_renorm", "spectral_normalization", "spectral_normalization_embedding"},
}


def inputs(shape: Any, seed: int = 1, dtype: Any = jnp.float32) -> Any:
    """Return a random input of this shape; for a list or dict of shapes, a list or dict of inputs."""
    if isinstance(shape, dict):
        return dict(zip(shape, inputs(list(shape.values()), seed, dtype), strict=True))
    if isinstance(shape, list):
        return [inputs(one, 10 * seed + index, dtype) for index, one in enumerate(shape)]
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def randomised(params: Any, seed: int = 2) -> Any:
    """Return params in which no leaf is zero or one: positive values, so that a variance stays one."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), max(len(leaves), 1))
    return jax.tree.unflatten(
        tree,
        [v * 0.5 + 0.2 + 0.3 * jax.random.uniform(k, v.shape, v.dtype) for k, v in zip(keys, leaves, strict=False)],
    )


def tolerance(layer: Layer) -> float:
    """Return the relative error to allow: some rounding errors of the coarsest type that the layer computes in."""
    coarse = [float(jnp.finfo(leaf.policy.compute).eps) for leaf in flat(layer)]
    return 40 * max([*coarse, float(jnp.finfo(jnp.float32).eps)])


def flat(layer: Layer) -> list[Layer]:
    """List the layers inside, or the layer itself."""
    return [leaf for child in layer.children.values() for leaf in flat(child)] if layer.children else [layer]


def rebuilt(layer: Layer, change: Any) -> Layer:
    """Build the layer again with ``change(layer) -> dict of options`` applied to it and to every layer inside."""
    if isinstance(layer, jc.Model):
        layer = layer.map_layers(lambda _, child: rebuilt(child, change))
    fields = ("layer", "backward_layer", "layers", "branches", "shortcut", "merge")
    holds = [] if isinstance(layer, jc.Model) else fields
    inside = {}
    for name in holds:
        held = getattr(layer, name, None)
        if isinstance(held, tuple):
            inside[name] = tuple(rebuilt(child, change) for child in held)
        elif isinstance(held, Layer):
            inside[name] = rebuilt(held, change)
    return dataclasses.replace(layer, **inside, **change(layer))


def in_float64(layer: Layer) -> Layer:
    """Return the layer with every policy float64."""
    return rebuilt(layer, lambda _: {"dtype": "float64"})


def in_other_format(layer: Layer) -> Layer:
    """Return the layer for the other data format."""

    def change(one: Layer) -> dict[str, Any]:
        if isinstance(one, jc.BatchNormalization | jc.GroupNormalization):
            return {"axis": -1 if one.axis == 1 else 1}
        if hasattr(one, "data_format"):
            return {
                "data_format": FIRST if one.data_format == "channels_last" else "channels_last",
                "input_shape": None,
            }
        return {}

    return rebuilt(layer, change)
