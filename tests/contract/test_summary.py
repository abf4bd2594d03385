"""Multiply-adds and receptive fields, compared with numbers by hand and with the inputs that change an output."""

import jax
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.contract.display import summary
from jaxconv.contract.receptive_field import format_fields
from tests.support.catalogue import CASES


def rows_of(layer, shape):
    return {row.name: row for row in summary(layer, shape)}


def count(layer, shape):
    return summary(layer, shape)[0].multiply_adds


@pytest.mark.parametrize(
    ("layer", "shape", "by_hand"),
    [
        (jc.Conv1D(8, 3), (None, 10, 4), 8 * 3 * 4 * 8),
        (jc.Conv1D(8, 3, groups=2), (None, 10, 4), 8 * 3 * 2 * 8),
        (jc.Conv1D(8, 3, strides=2, padding="same"), (None, 10, 4), 5 * 3 * 4 * 8),
        (jc.Conv2D(8, (3, 2), data_format="channels_first"), (None, 4, 5, 6), 3 * 5 * 3 * 2 * 4 * 8),
        (jc.Conv3D(2, 3, padding="same"), (None, 4, 4, 4, 3), 64 * 27 * 3 * 2),
        (jc.Conv1DTranspose(8, 4, strides=2, padding="same"), (None, 10, 3), 10 * 4 * 3 * 8),
        (jc.Conv2DTranspose(8, 4, strides=2, groups=2), (None, 5, 5, 4), 25 * 16 * 2 * 8),
        (jc.DepthwiseConv2D(3, depth_multiplier=2), (None, 6, 6, 5), 16 * 9 * 5 * 2),
        (jc.SeparableConv1D(8, 3, depth_multiplier=2), (None, 10, 4), 8 * (3 * 8 + 8 * 8)),
        (jc.LocallyConnected1D(8, 3), (None, 10, 4), 8 * 3 * 4 * 8),
        (jc.SpectralNormalization(jc.Conv1D(8, 3)), (None, 10, 4), 8 * 3 * 4 * 8),
        (jc.Dense(5), (None, 7), 35),
        (jc.Dense(5), (None, 3, 7), 105),
        (jc.MaxPooling1D(2), (None, 10, 4), 0),
        (jc.BatchNormalization(), (None, 10, 4), 0),
        (jc.Conv1D(8, 3), (None, None, 4), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, jc.Layer) else None,
)
def test_multiply_adds_by_hand(layer, shape, by_hand):
    assert count(layer, shape) == by_hand


def test_a_mobilenet_block_by_hand():
    # as Howard et al. 2017 count: D_K^2 M D_F^2 for the depthwise part, M N D_F^2 for the pointwise one
    block = jc.Sequential(
        [
            jc.DepthwiseConv2D(3, padding="same", use_bias=False),
            jc.BatchNormalization(),
            jc.ReLU(),
            jc.Conv2D(1024, 1, use_bias=False),
            jc.BatchNormalization(),
            jc.ReLU(),
        ]
    )
    rows = rows_of(block, (None, 14, 14, 512))
    assert rows["depthwise_conv2d"].multiply_adds == 9 * 512 * 14 * 14
    assert rows["conv2d"].multiply_adds == 512 * 1024 * 14 * 14
    assert rows[""].multiply_adds == 9 * 512 * 196 + 512 * 1024 * 196
    assert format_fields(rows["re_lu_1"].fields) == "3 x 3" and (rows[""].trainable, rows[""].fixed) == (531968, 3072)


def test_a_temporal_convolution_network_sees_what_the_formula_says():
    # 1 + 2 (k - 1) (1 + 2 + 4 + 8), Bai et al. 2018, two convolutions in each block
    blocks = [
        jc.Residual([jc.Conv1D(4, 3, padding="causal", dilation_rate=2**n, activation="relu") for _ in range(2)])
        for n in range(4)
    ]
    rows = rows_of(jc.Sequential([jc.Conv1D(4, 1), *blocks]), (None, 100, 1))
    field = rows[""].fields[0]
    assert field.size == 1 + 2 * 2 * 15 and field.high == 0  # causal: it ends at the step itself
    assert rows["residual/body/conv1d"].fields[0].size == 3


CHAINS = {
    "same strides": [jc.Conv1D(1, 5, strides=2, padding="same"), jc.Conv1D(1, 3, padding="same")],
    "dilation": [jc.Conv1D(1, 3, dilation_rate=4), jc.MaxPooling1D(2), jc.Conv1D(1, 3)],
    "pooling": [jc.AveragePooling1D(3, 2, padding="same"), jc.AveragePooling1D(2)],
    "transposed": [jc.Conv1D(1, 4, strides=2, padding="same"), jc.Conv1DTranspose(1, 5, strides=2, padding="same")],
    "transposed with dilation": [jc.Conv1DTranspose(1, 4, strides=2, dilation_rate=3, strides_with_dilation=True)],
    "nearest": [jc.Conv1D(1, 3), jc.UpSampling1D(2), jc.Conv1D(1, 4)],
    "bilinear": [jc.UpSampling1D(2, interpolation="bilinear"), jc.Conv1D(1, 4)],
    "edges": [jc.ZeroPadding1D((3, 1)), jc.Conv1D(1, 3), jc.Cropping1D((0, 2))],
    "pointwise": [jc.Conv1D(3, 3), jc.BatchNormalization(), jc.LayerNormalization(), jc.Dense(3), jc.Softmax()],
    "residual": [jc.Residual([jc.Conv1D(1, 3, padding="same"), jc.Conv1D(1, 5, padding="same")])],
    "uneven branches": [jc.Parallel([jc.Conv1D(1, 3, padding=(0, 2)), jc.Conv1D(1, 3, padding=(2, 0))], "add")],
    "concatenated": [jc.Parallel([jc.Conv1D(1, 5, padding="same"), jc.Conv1D(1, 1)], "concatenate"), jc.Conv1D(1, 2)],
    "permuted": [jc.Permute((2, 1)), jc.Conv1D(1, 3, data_format="channels_first")],
    "reshaped": [jc.Reshape((48, 1, 1)), jc.Conv2D(1, (3, 1)), jc.Conv2D(1, (2, 1))],
}


@pytest.mark.few(2)
@pytest.mark.parametrize("name", CHAINS)
def test_the_field_is_what_a_step_depends_on(name):
    # move each input step far up and far down, and see which output steps notice: max pooling notices one of the two;
    # random positive weights let nothing cancel
    layer = jc.Sequential(CHAINS[name])
    params, apply_fn = layer.init(jax.random.key(0), (None, 48, 1))
    params = jax.tree.map(lambda leaf: jax.random.uniform(jax.random.key(1), leaf.shape, minval=0.5), params)
    x = np.random.default_rng(0).uniform(size=(48, 1)).astype("float32")
    here = np.eye(48, dtype=bool)[:, :, None]
    batches = (np.where(here, value, x) for value in (x, 9, -9))
    y, up, down = (np.asarray(jax.jit(apply_fn)(params, batch)) for batch in batches)
    axis = next(axis for axis, field in enumerate(summary(layer, (None, 48, 1))[0].fields, 1) if field is not None)
    moved = np.maximum(abs(up - y), abs(down - y)) > 1e-4  # roundings are of 1e-6
    noticed = np.moveaxis(moved, axis, 1).reshape(48, y.shape[axis], -1).any(2)
    steps = [np.flatnonzero(noticed[:, step]) for step in range(y.shape[axis])]
    widest = max(int(places[-1] - places[0]) + 1 for places in steps if len(places))
    assert summary(layer, (None, 48, 1))[0].fields[axis - 1].size == widest


@pytest.mark.parametrize(
    "layers",
    [
        [jc.Conv1D(4, 3), jc.GlobalAveragePooling1D()],
        [jc.Conv1D(4, 3), jc.Flatten(), jc.Dense(2)],
        [jc.Conv1D(4, 3), jc.GroupNormalization(2)],
        [jc.Conv1D(4, 3), jc.LayerNormalization(axis=(1, 2))],
        [jc.Conv1D(4, 3), jc.Softmax(axis=1)],
    ],
    ids=["global pooling", "flatten", "groups", "layer", "softmax"],
)
def test_what_sees_everything_has_no_field(layers):
    row = summary(jc.Sequential(layers), (None, 20, 2))[0]
    assert format_fields(row.fields) == "-"


def test_branches_of_different_speed_have_no_field():
    x = jc.Input((16, 2))
    halves = [jc.Conv1D(4, 3, strides=2, padding="same")(x), jc.Cropping1D((4, 4))(jc.Conv1D(4, 1)(x))]
    assert format_fields(summary(jc.Model(x, jc.Add()(halves)), (None, 16, 2))[0].fields) == "-"


def test_a_graph_has_a_row_for_each_call_and_counts_shared_weights_once():
    left, right = jc.Input((16, 2), name="left"), jc.Input((16, 2), name="right")
    shared = jc.Sequential([jc.Conv1D(4, 3, name="conv"), jc.Conv1D(4, 3, name="last")], name="tower")
    model = jc.Model([left, right], [jc.Add(name="sum")([shared(left), shared(right)])])
    rows = summary(model, [(None, 16, 2), (None, 16, 2)])
    names = ["", "tower", "tower/conv", "tower/last", "tower", "tower/conv", "tower/last", "sum"]
    assert [row.name for row in rows] == names and [row.depth for row in rows] == [0, 1, 2, 2, 1, 2, 2, 1]
    assert [row.trainable for row in rows] == [28 + 52, 28 + 52, 28, 52, 0, 0, 0, 0]
    assert rows[0].multiply_adds == 2 * (14 * 3 * 2 * 4 + 12 * 3 * 4 * 4)
    assert rows[-1].fields[0].size == 5


def test_several_inputs_of_a_single_layer():
    rows = summary(jc.Concatenate(), [(None, 8, 3), (None, 8, 5)])
    assert rows[0].output == (None, 8, 8) and format_fields(rows[0].fields) == "1"


def test_a_layer_of_the_users_own_is_counted_by_what_it_declares():
    import dataclasses

    import jaxconv.windows

    @dataclasses.dataclass(frozen=True)
    class Mine(jc.Conv1D):
        def multiply_adds(self, input_shape):
            return 7

        def windows(self, input_shape):
            time, channels = super().windows(input_shape)
            return jaxconv.windows.whole(time.output_length(input_shape[1])), channels

    rows = summary(jc.Sequential([Mine(2, 3), jc.Conv1D(2, 3)]), (None, 8, 3))
    assert [row.multiply_adds for row in rows] == [7 + 4 * 3 * 2 * 2, 7, 4 * 3 * 2 * 2]
    assert [format_fields(row.fields) for row in rows] == ["-", "-", "-"]


def test_an_input_that_does_not_fit_names_the_layer():
    with pytest.raises(ValueError, match=r"conv1d_1, given shape \(None, 2, 4\)"):
        summary(jc.Sequential([jc.Conv1D(4, 3), jc.Conv1D(4, 3)]), (None, 4, 1))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_layer_says_its_size(case):
    layer, shape = case
    whole, *_ = summary(layer, shape)
    first = jax.tree.leaves(layer.output_shape(shape), is_leaf=lambda one: isinstance(one, tuple))[0]
    assert whole.output == layer.output_shape(shape) and len(whole.fields) == len(first) - 1
    assert whole.multiply_adds is not None and whole.multiply_adds >= 0


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("first", [jc.ZeroPadding2D, jc.MaxPooling2D, jc.ReLU, jc.Dropout])
def test_channels_have_no_field_before_the_first_convolution(first, data_format):
    shape = (None, 8, 8, 3) if data_format == "channels_last" else (None, 3, 8, 8)
    padded = {"data_format": data_format} if issubclass(first, jc.ZeroPadding2D | jc.MaxPooling2D) else {}
    first = first(0.5) if first is jc.Dropout else first(**padded)
    rows = summary(jc.Sequential([first, jc.Conv2D(4, 3, data_format=data_format)]), shape)
    own, size = ("2 x 2", "6 x 6") if isinstance(first, jc.MaxPooling2D) else ("1 x 1", "3 x 3")
    assert [format_fields(row.fields) for row in rows] == [size, own, size]
    if padded:
        assert format_fields(summary(first, shape)[0].fields) == own
    inside = jc.TimeDistributed(jc.MaxPooling2D(2, data_format=data_format))
    assert format_fields(summary(inside, (None, 5, *shape[1:]))[0].fields).count("2") == 2


def test_a_leading_padding_in_a_nested_model_is_part_of_its_receptive_field():
    inner = jc.Sequential([jc.ZeroPadding1D((6, 0)), jc.Conv1D(2, 7)])
    fields = [row.fields[0].size for row in summary(jc.Sequential([inner, jc.Conv1D(2, 3)]), (None, 32, 1))]
    assert fields == [9, 7, 1, 7, 9]  # the model, the nested one, its padding
