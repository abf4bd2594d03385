"""The cases of Keras's that are not run, each with its reason. A key is a case, or the beginning of several."""

LORA = "LoRA: jaxconv has none"
SPARSE = "sparse arrays: jaxconv takes dense ones"
ADAPTIVE = "adaptive pooling: no such layer"
FIT = "trains or predicts with Keras's own Sequential"
KERAS = "tests a function of Keras's that no layer of jaxconv stands for"
SCOPE = "autocast scopes: a policy is an argument here, never ambient"
CONFIG = "compares a config that is the same after JSON only: lists for tuples, dtype None for the policy in force"
CHANNELS = "computes with an unknown number of channels: jaxconv's functions take arrays, and layers refuse it"
SEEDS = "seeds with state: jaxconv's are integers, and a key makes the values"
MERGES = ("add", "subtract", "multiply", "average", "maximum", "minimum", "concat", "dot_2d", "dot_3d")

LEFT_OUT: dict[str, str] = {
    "conv_test::ConvBasicTest::test_enable_lora": LORA,
    "conv_test::ConvBasicTest::test_lora": LORA,
    "nn_test::NNOpsStaticShapeTest::test_conv_input_channel_validation": CHANNELS,
    "nn_test::NNOpsStaticShapeTest::test_conv_transpose_input_channel_validation": CHANNELS,
    "adaptive_pooling": ADAPTIVE,
    "batch_normalization_test::BatchNormalizationTest::test_large_value_within_autocast_scope": SCOPE,
    "group_normalization_test::GroupNormalizationTest::test_large_value_within_autocast_scope": SCOPE,
    "layer_normalization_test::LayerNormalizationTest::test_large_value_within_autocast_scope": SCOPE,
    "spectral_normalization_test::SpectralNormalizationTest::test_end_to_end": FIT,
    "flatten_test::FlattenTest::test_flatten_sparse": SPARSE,
    "flatten_test::FlattenTest::test_flatten_with_dynamic_batch_size_and_dynamic_dimenstions": FIT,
    "permute_test::PermuteTest::test_permute_sparse": SPARSE,
    "reshape_test::ReshapeTest::test_reshape_sparse": SPARSE,
    "reshape_test::ReshapeTest::test_reshape_model_fit_with_varying_input_size_and_minus_one": FIT,
    **{f"zero_padding{n}d_test::ZeroPadding{n}DTest::test_zero_padding_{n}d_get_config": CONFIG for n in (1, 2, 3)},
    **{f"merging_test::MergingLayersTest::test_sparse_{merge}": SPARSE for merge in MERGES},
    "random_initializers_test::RandomInitializersTest::test_compute_fans_with_axes": KERAS,
    "random_initializers_test::RandomInitializersTest::test_mha_query_projection_variance": KERAS,
    "random_initializers_test::RandomInitializersTest::test_random_normal": SEEDS,
    "random_initializers_test::RandomInitializersTest::test_serialization_with_seed_generator": SEEDS,
    "initializer_test::InitializersLayoutTest": KERAS,
    "regularizers_test::ValidateFloatArgTest": KERAS,
}

# cases that fail because jaxconv does otherwise: each is expected to fail, and says so when it passes
DIFFERS: dict[str, str] = {
    "up_sampling1d_test::UpSamplingTest::test_upsampling_1d_with_invalid_size": "True is taken for 1",
    "spectral_normalization_test::SpectralNormalizationTest::test_invalid_layer": "refused when built, not when called",
}


def reason(case: str, table: dict[str, str]) -> str | None:
    """Give the reason of a case, or None where it is in no entry of the table."""
    return next((why for key, why in table.items() if case.startswith(key)), None)
