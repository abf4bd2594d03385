"""Tuning a layer: the measurements, the winners, and their storage."""

import jax
import jax.numpy as jnp
import pytest

import jaxconv
from jaxconv.kernels import tuning_cache
from jaxconv.kernels.choice import Winner
from jaxconv.tuning.convolutions import convolutions
from jaxconv.tuning.measurement import fastest
from tests.support.tuning import LAYER, W, X, convolve, explained, remember, scopes


def test_the_faster_lowering_of_a_layer_is_remembered_and_used(file, clock):
    report = jaxconv.tune(LAYER, (None, 12, 3), batch=2)
    assert [(one.map, one.convolution) for one in report] == [
        ("convolve", "2x12x3 to 12x4, k3 float32"),
        ("correlate", "2x12x3 to 12x4, k3 float32"),
    ]
    assert report[0].winner == Winner("im2col", 4.0, "xla_nhwc", 5.0)
    assert [one.lowering for one in explained()] == ["im2col", "polyphase > xla_nhwc", "im2col"]
    params, apply_fn = LAYER.init(jax.random.key(0), (None, 12, 3))
    assert "jaxconv.convolve.im2col" in scopes(apply_fn, params, X)
    assert str(file) in repr(report) and "2 convolutions: 12 ms by the table, 8 ms as tuned" in repr(report)


def test_a_program_that_was_compiled_before_follows_the_new_choice(file, clock):
    traced = []

    @jax.jit
    def call(x, w):
        traced.append(x)
        return convolve(x, w)

    x, w = jnp.ones(X.shape), jnp.ones(W.shape)
    call(x, w)
    call(x, w)
    assert len(traced) == 1
    jaxconv.tune(LAYER, X.shape, train=False)
    call(x, w)
    assert len(traced) == 2


def test_what_is_remembered_is_measured_again_only_on_request(file, clock):
    jaxconv.tune(LAYER, (2, 12, 3), train=False)
    count = len(clock)
    report = jaxconv.tune(LAYER, (2, 12, 3), train=False)
    assert len(clock) == count
    assert report[0].remembered and repr(report).count("(remembered)") == 1
    assert not jaxconv.tune(LAYER, (2, 12, 3), train=False, again=True)[0].remembered
    remember("strassen")  # by a jaxconv that knew it
    assert not jaxconv.tune(LAYER, (2, 12, 3), train=False)[0].remembered


def test_a_winner_is_clearly_faster_in_two_races(clock, monkeypatch):
    [one] = convolutions(convolve, X, W)
    answers = iter([{"xla_nhwc": 5.0, "matmul": 4.8}])
    monkeypatch.setattr("jaxconv.tuning.measurement.race", lambda *_: next(answers))
    assert fastest(one, "cpu", 0.0) == Winner("xla_nhwc", 5.0, "xla_nhwc", 5.0)
    answers = iter([{"xla_nhwc": 5.0, "matmul": 4.0}, {"xla_nhwc": 4.2, "matmul": 4.1}])
    assert fastest(one, "cpu", 0.0) == Winner("xla_nhwc", 4.2, "xla_nhwc", 4.2)
    answers = iter([{"xla_nhwc": 5.0, "matmul": 4.0}, {"xla_nhwc": 5.1, "matmul": 4.1}])
    assert fastest(one, "cpu", 0.0) == Winner("matmul", 4.1, "xla_nhwc", 5.1)
    answers = iter([{"xla_nhwc": 5.0, "matmul": 4.0}, {"xla_nhwc": 5.1}])  # it dropped out
    assert fastest(one, "cpu", 0.0) == Winner("xla_nhwc", 5.1, "xla_nhwc", 5.1)


def test_lowerings_that_need_much_memory_are_not_raced(raced, monkeypatch):
    [one] = convolutions(convolve, X, W)
    fastest(one, "cpu", 0.0)
    assert raced[0] == ["xla_nhwc", *(name for name in one.supported() if name != "xla_nhwc")]
    monkeypatch.setattr("jaxconv.tuning.convolutions.SMALL", 0)
    monkeypatch.setattr("jaxconv.tuning.convolutions.MAX_TEMPORARY", 0)
    raced.clear()
    fastest(one, "cpu", 0.0)
    assert raced[0][0] == "xla_nhwc" and len(raced[0]) < len(one.supported())


def test_a_real_race_ends_with_a_lowering_that_can_compute_it(file):
    for one in convolutions(jax.value_and_grad(lambda w, x: jnp.sum(convolve(x, w))), W, X):
        winner = fastest(one, "cpu", 0.0)
        assert winner.lowering in one.supported() and winner.table == one.default("cpu")
        assert 0 < winner.ms <= winner.table_ms


def test_an_interrupted_tuning_keeps_what_it_had(file, clock, monkeypatch):
    rounds = []

    def run(programs, seconds):
        rounds.append(programs)
        if len(rounds) == 2:
            raise KeyboardInterrupt
        return dict.fromkeys(programs, 1.0)

    monkeypatch.setattr("jaxconv.tuning.measurement.race", run)
    with pytest.raises(KeyboardInterrupt, match=r"interrupted; 1 of 2 convolutions remembered in .*tuned\.json"):
        jaxconv.tune(LAYER, (2, 12, 3))
    assert len(tuning_cache.winners("cpu")) == 1
    assert [one.remembered for one in jaxconv.tune(LAYER, (2, 12, 3))] == [True, False]


@pytest.mark.parametrize(
    ("layer", "shape", "words"),
    [
        (jaxconv.Conv1DTranspose(4, 3, strides=2), (2, 5, 3), "2x11x4 to 5x3, k3 s2 float32"),
        (jaxconv.DepthwiseConv2D((3, 2)), (1, 6, 5, 4), "1x6x5x4 to 4x4x4, k3x2 g4 float32"),
        (jaxconv.Conv1D(4, 2, dilation_rate=3, dtype="bfloat16"), (2, 9, 3), "2x9x3 to 6x4, k2 d3 bfloat16"),
    ],
)
def test_a_convolution_is_named_by_its_sizes_whichever_map_it_is(layer, shape, words, file, clock):
    assert {one.convolution for one in jaxconv.tune(layer, shape)} == {words}


def test_models_of_several_inputs_and_of_integers_are_tuned(file, clock):
    one, two = jaxconv.Input((12, 3)), jaxconv.Input((12, 3))
    model = jaxconv.Model([one, two], jaxconv.Add()([LAYER(one), jaxconv.Conv1D(4, 5, padding="same")(two)]))
    assert len(jaxconv.tune(model, [(None, 12, 3), (None, 12, 3)])) == 4
    words = jaxconv.Sequential([jaxconv.Embedding(7, 3), LAYER])
    assert len(jaxconv.tune(words.apply_fn, (2, 9), dtype="int32")) == 3


def test_a_layer_without_a_choice_needs_no_file():
    assert repr(jaxconv.tune(jaxconv.Dense(2), (None, 3))) == "no convolution here has more than one lowering"


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((len, (2, 12, 3)), {}, TypeError, "layer is of type builtin_function"),
        ((LAYER, (2, None, 3)), {}, ValueError, r"input_shape \(2, None, 3\)"),
        ((LAYER, (None, 12, 3)), {"batch": 0}, ValueError, "batch=0"),
        ((LAYER, (None, 12, 3)), {"dtype": "float31"}, ValueError, "dtype='float31'"),
        ((LAYER, (None, 12, 3)), {"seconds": -1.0}, ValueError, r"seconds=-1\.0"),
        ((LAYER, (None, 12)), {}, ValueError, "Conv1D"),
    ],
)
def test_wrong_arguments_are_refused(arguments, options, error, message):
    with pytest.raises(error, match=message):
        jaxconv.tune(*arguments, **options)
