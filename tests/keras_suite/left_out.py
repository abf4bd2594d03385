"""The cases of Keras that do not run, each with its reason, and those that Keras skips, with Keras's condition.

A key is the name of a case, or the common beginning of several.
"""

from collections.abc import Callable
from typing import Any

LORA = "jaxconv has no LoRA"
SPARSE = "jaxconv has no sparse arrays"
KERAS = "tests attention or variable layouts, which jaxconv does not have"
SCOPE = "jaxconv has no autocast scopes: a policy is an argument"
CHANNELS = "the number of channels is unknown, which jaxconv does not support"
SEEDS = "the seed is a generator with state; jaxconv's seeds are integers"
NONE = "Keras's check refuses None, which is the default factor of the regularizers of Keras and jaxconv"
STATE = "states do not stay in a layer between calls"
CUDNN = "reads the choice of a cuDNN kernel inside Keras's layer"
RNNS = (
    "simple_rnn_test::SimpleRNNTest",
    "lstm_test::LSTMTest",
    "gru_test::GRUTest",
    "bidirectional_test::SimpleRNNTest",
)
MERGES = ("add", "subtract", "multiply", "average", "maximum", "minimum", "concat", "dot_2d", "dot_3d")

LEFT_OUT: dict[str, str] = {
    "conv_test::ConvBasicTest::test_enable_lora": LORA,
    "conv_test::ConvBasicTest::test_lora": LORA,
    "nn_test::NNOpsStaticShapeTest::test_conv_input_channel_validation": CHANNELS,
    "nn_test::NNOpsStaticShapeTest::test_conv_transpose_input_channel_validation": CHANNELS,
    "batch_normalization_test::BatchNormalizationTest::test_large_value_within_autocast_scope": SCOPE,
    "group_normalization_test::GroupNormalizationTest::test_large_value_within_autocast_scope": SCOPE,
    "layer_normalization_test::LayerNormalizationTest::test_large_value_within_autocast_scope": SCOPE,
    "flatten_test::FlattenTest::test_flatten_sparse": SPARSE,
    "permute_test::PermuteTest::test_permute_sparse": SPARSE,
    "reshape_test::ReshapeTest::test_reshape_sparse": SPARSE,
    **{f"merging_test::MergingLayersTest::test_sparse_{merge}": SPARSE for merge in MERGES},
    **{f"{name}::test_statefulness": STATE for name in RNNS},
    "gru_test::GRUTest::test_stateful_with_symbolic_batch_size": STATE,
    "gru_test::GRUTest::test_torch_cudnn": CUDNN,
    "bidirectional_test::SimpleRNNTest::test_torch_cudnn": CUDNN,
    "bidirectional_test::SimpleRNNTest::test_fused_lstm_eligibility": CUDNN,
    "bidirectional_test::SimpleRNNTest::test_fused_gru_eligibility": CUDNN,
    "bidirectional_test::SimpleRNNTest::test_keeps_use_cudnn": CUDNN,
    "random_initializers_test::RandomInitializersTest::test_mha_query_projection_variance": KERAS,
    "random_initializers_test::RandomInitializersTest::test_serialization_with_seed_generator": SEEDS,
    "initializer_test::InitializersLayoutTest": KERAS,
    "regularizers_test::ValidateFloatArgTest::test_validate_float_with_none": NONE,
}

# cases that fail because of a deliberate difference; the suite checks that they fail
DIFFERS: dict[str, str] = {
    "spectral_normalization_test::SpectralNormalizationTest::test_invalid_layer": "the constructor raises the error, "
    "not the first call",
}


def padded_beyond_strides(options: dict[str, Any]) -> bool:
    return options["output_padding"] is not None and options["output_padding"] >= options["strides"]


# cases that Keras skips: beginning of the name -> condition on the parameters of the case
SKIPPED: dict[str, Callable[[dict[str, Any]], bool]] = {
    "conv_transpose_test::ConvTransposeCorrectnessTest::test_conv1d_transpose_consistency": padded_beyond_strides,
    "conv_transpose_test::ConvTransposeCorrectnessTest::test_shape_inference_static_unknown": padded_beyond_strides,
    "nn_test::NNOpsCorrectnessTest::test_conv_1d": lambda options: (
        options["strides"] > 1 and options["dilation_rate"] > 1
    ),
    **{f"merging_test::MergingLayersTest::test_errors_dot_{rank}d": lambda options: True for rank in (2, 3)},
}


def reason(case: str, table: dict[str, str]) -> str | None:
    """Return the reason of a case, or None if it is not in the table."""
    return next((why for key, why in table.items() if case.startswith(key)), None)
