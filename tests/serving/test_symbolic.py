"""Models exported for unknown lengths: one program has the outputs of the model for every valid length."""

import jax
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.serving import export, load_exported
from tests.support.catalogue import CASES, map_shapes

pytest.importorskip("flatbuffers")


def open_axis(shape, axis):
    return map_shapes(lambda one: tuple(None if n in (0, axis) else size for n, size in enumerate(one)), shape)


# kernels of locally connected layers and windows of adaptive pooling depend on the length; an LSTM has no windows
WINDOWED = {
    name: case
    for name, case in CASES.items()
    if any(word in name for word in ("conv", "pool", "pad", "crop", "upsampling"))
    and not any(word in name for word in ("local", "adaptive", "lstm"))
    and hasattr(case.layer, "data_format")
}
AXES = [
    (name, axis + (case.layer.data_format == "channels_first"))
    for name, case in WINDOWED.items()
    for axis in range(1, len(case.shape) - 1)
]


@pytest.mark.few(3)
@pytest.mark.parametrize(("name", "axis"), AXES)
def test_a_layer_exported_for_any_length_computes_what_it_does_for_each(name, axis, tmp_path):
    layer, shape = CASES[name]
    params, apply_fn = layer.init(jax.random.key(0), shape)
    export(apply_fn, params, tmp_path / "m.jaxexport", open_axis(shape, axis), platforms=["cpu"])
    exported = load_exported(tmp_path / "m.jaxexport")
    for longer in (0, 3):
        sizes = tuple(size + longer * (n == axis) for n, size in enumerate(shape))
        x = np.random.default_rng(longer).normal(size=sizes).astype(np.float32)
        want = apply_fn(params, x)
        tolerance = 1e-5 if want.dtype == np.float32 else 0.05  # half precision rounds at other places
        np.testing.assert_allclose(exported(x).astype(np.float32), want.astype(np.float32), tolerance, tolerance)


def test_the_shortest_valid_length_runs_and_a_shorter_one_is_refused(tmp_path):
    net = jc.Sequential([jc.Conv1D(3, 4, strides=2), jc.MaxPooling1D(2), jc.Conv1D(2, 2), jc.GlobalAveragePooling1D()])
    params, apply_fn = net.init(jax.random.key(0), (None, None, 2))
    export(apply_fn, params, tmp_path / "m.jaxexport", (None, None, 2), platforms=["cpu"])
    exported, x = load_exported(tmp_path / "m.jaxexport"), np.ones((2, 10, 2), np.float32)
    np.testing.assert_allclose(exported(x), apply_fn(params, x), 1e-5, 1e-6)
    with pytest.raises(ValueError, match=r"\(2, 9, 2\).*short"):
        exported(x[:, 1:])


@pytest.mark.parametrize("joined", [False, True], ids=["independent", "added"])
def test_lengths_of_several_inputs_are_equal_only_where_the_model_combines_them(joined, tmp_path):
    left, right = jc.Input((None, 2), name="left"), jc.Input((None, 2), name="right")
    a, b = (jc.Conv1D(3, 2)(one) for one in (left, right))
    pool = jc.GlobalMaxPooling1D()
    net = jc.Model([left, right], pool(jc.Add()([a, b])) if joined else jc.Add()([pool(a), pool(b)]))
    params, apply_fn = net.init(jax.random.key(0))
    export(apply_fn, params, tmp_path / "m.jaxexport", [(None, None, 2)] * 2, platforms=["cpu"])
    x, y = np.ones((2, 5, 2), np.float32), np.ones((2, 5 if joined else 3, 2), np.float32)
    np.testing.assert_allclose(load_exported(tmp_path / "m.jaxexport")([x, y]), apply_fn(params, [x, y]), 1e-5, 1e-6)


def test_a_function_that_compares_an_unknown_length_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"\(None, None\).*n1 - 3.*numbers"):
        export(lambda params, x: x[:, : x.shape[1] - 3] + np.ones(x.shape[1] - 3), {}, tmp_path / "m", (None, None))
