"""The cases of Keras's that are not run, each with its reason. A key is a case, or the beginning of several.

And those that Keras itself skips, by the rule that stands in the case: a run checks each.
"""

from collections.abc import Callable
from typing import Any

LORA = "LoRA: jaxconv has none"
SPARSE = "sparse arrays: jaxconv takes dense ones"
KERAS = "tests what of Keras's nothing of jaxconv stands for: attention, a variable's layout over devices"
SCOPE = "autocast scopes: a policy is an argument here, never ambient"
CHANNELS = "computes with an unknown number of channels: jaxconv's functions take arrays, and layers refuse it"
SEEDS = "writes a seed generator, which has state, to a config: jaxconv's seeds are integers"
NONE = "None is no factor to Keras's check, but the default to each regularizer, of Keras's and of jaxconv's"
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
    "random_initializers_test::RandomInitializersTest::test_mha_query_projection_variance": KERAS,
    "random_initializers_test::RandomInitializersTest::test_serialization_with_seed_generator": SEEDS,
    "initializer_test::InitializersLayoutTest": KERAS,
    "regularizers_test::ValidateFloatArgTest::test_validate_float_with_none": NONE,
}

# cases that fail because jaxconv does otherwise: each is expected to fail, and says so when it passes
DIFFERS: dict[str, str] = {
    "spectral_normalization_test::SpectralNormalizationTest::test_invalid_layer": "refused as early as it is known: "
    "when the wrapper is built, not when it is first called",
}


def padded_beyond_strides(given: dict[str, Any]) -> bool:
    return given["output_padding"] is not None and given["output_padding"] >= given["strides"]


# cases that Keras skips: the beginning of their names -> whether it does, for the case's parameters
SKIPPED: dict[str, Callable[[dict[str, Any]], bool]] = {
    "conv_transpose_test::ConvTransposeCorrectnessTest::test_conv1d_transpose_consistency": padded_beyond_strides,
    "conv_transpose_test::ConvTransposeCorrectnessTest::test_shape_inference_static_unknown": padded_beyond_strides,
    "nn_test::NNOpsCorrectnessTest::test_conv_1d": lambda given: given["strides"] > 1 and given["dilation_rate"] > 1,
    **{f"merging_test::MergingLayersTest::test_errors_dot_{rank}d": lambda given: True for rank in (2, 3)},
}


def reason(case: str, table: dict[str, str]) -> str | None:
    """Give the reason of a case, or None where it is in no entry of the table."""
    return next((why for key, why in table.items() if case.startswith(key)), None)
