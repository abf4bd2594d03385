"""Streams exported as one program: the results of the stream without its layers; errors for wrong input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.files.archive import read_archive, write_archive
from jaxconv.files.errors import FileError

pytest.importorskip("flatbuffers")
RNG = np.random.default_rng(0)
CONV = jc.Conv1D(3, 3, padding="same", activation="relu")


def nested():
    """Return a model with a residual, a change of the rate, an interpolation and a mean over all steps so far."""
    layers = [jc.Conv1D(3, 3, 2, "same"), jc.Residual([CONV, CONV]), jc.Conv1DTranspose(4, 3, 2, "same")]
    return jc.Sequential([*layers, jc.UpSampling1D(2, interpolation="bilinear"), jc.GlobalAveragePooling1D()])


def several():
    """Return a model of two inputs of different types, and two outputs with different delays."""
    words, sound = jc.Input((None,), dtype="int32", name="words"), jc.Input((None, 3), name="sound")
    total = jc.Add()([jc.Embedding(5, 3)(words), CONV(sound)])
    head = jc.Dense(2)(jc.Flatten()(jc.Conv1D(2, 2)(total)))
    return jc.Model({"words": words, "sound": sound}, {"total": total, "head": head})


MODELS = {
    "nested": (nested(), (None, None, 2), {"pooling": "cumulative"}, 4),
    "several": (several(), {"words": (None, 6), "sound": (None, 6, 3)}, {}, 3),
}


@pytest.fixture(scope="module", params=MODELS)
def pair(request, tmp_path_factory):
    """Return (live stream, its params, exported stream, the path)."""
    model, shape, options, chunk = MODELS[request.param]
    live, path = jc.stream(model, shape, **options), tmp_path_factory.mktemp("streams") / "m.jaxexport"
    params, _ = model.init(jax.random.key(0), jax.tree.map(lambda n: n or 8, shape, is_leaf=lambda n: n is None))
    jc.export(live, params, path, chunk=chunk)
    return live, params, jc.load_exported(path), path


def chunk_of(exported, batch):
    """Return a random chunk in the structure of the input."""
    shapes, dtypes = exported.input_shape, exported.dtype
    if not isinstance(shapes, dict):
        return RNG.normal(size=(batch, *shapes[1:])).astype(dtypes)
    return {name: RNG.integers(0, 5, (batch, *shape[1:])).astype(dtypes[name]) for name, shape in shapes.items()}


def test_it_equals_the_live_stream_for_chunks_masks_resets_and_rows_that_wait(pair):
    live, params, exported, _ = pair
    step, batch = jax.jit(live.step), 3
    ours, theirs = exported.init(batch), live.init(batch)
    for turn in range(6):
        x = chunk_of(exported, batch)
        options = {
            "mask": np.arange(exported.chunk)[None] < RNG.integers(exported.chunk if turn < 3 else 1, 9, (batch, 1)),
            "reset": RNG.integers(0, 2, batch) > 0,
            "active": RNG.integers(0, 2, batch) > 0,
        }
        got, want = exported.step(ours, x, **options), step(params, theirs, x, **options)
        assert jax.tree.structure(got) == jax.tree.structure(want)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, want)
        ours, theirs = got[2], want[2]


def test_it_says_what_it_is(pair):
    live, _, exported, _ = pair
    assert (exported.block, exported.flush, exported.delay) == (live.block, live.flush, live.delay)
    assert exported.state_bytes == live.state_bytes and exported.platforms == ("cpu", "cuda", "tpu")
    assert jax.tree.map(jnp.shape, exported.init(2)) == jax.tree.map(jnp.shape, live.init(2))


def test_the_program_and_its_first_state_are_enough(pair):
    live, params, exported, path = pair
    with np.load(path) as file:
        program = jax.export.deserialize(bytearray(file["program"].tobytes()))
        leaves = [file[f"state/{number}"] for number in range(len(jax.tree.leaves(live.init(1))))]
    assert program.platforms == ("cpu", "cuda", "tpu")
    state, x = jax.tree.unflatten(jax.tree.structure(live.init(1)), leaves), chunk_of(exported, 1)
    real = np.ones((1, exported.chunk), bool)
    got = program.call(state, x, real, np.array([False]), np.array([True]))
    want = jax.jit(live.step)(params, live.init(1), x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, want)


LIVE = jc.stream(jc.Conv1D(2, 3, 2, "same", name="conv"), (None, None, 2))
PARAMS = LIVE.layer.init(jax.random.key(0), (None, 8, 2))[0]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("one") / "m.jaxexport"
    jc.export(LIVE, PARAMS, path, chunk=4, platforms=["cpu"])
    return path


@pytest.mark.parametrize(
    ("call", "kind", "facts"),
    [
        (lambda run, x: run.step(run.init(2), x), ValueError, ["batch size", "init(1)"]),
        (lambda run, x: run.step({}, x), ValueError, ["state", "init(1)"]),
        (lambda run, x: run.step(run.init(1), x[:, :3]), ValueError, ["(None, 4, 2)", "(1, 3, 2)"]),
        (lambda run, x: run.step(run.init(1), x[..., :1]), ValueError, ["(None, 4, 2)", "(1, 4, 1)"]),
        (lambda run, x: run.step(run.init(1), x * 1j), TypeError, ["complex", "float32"]),
        (lambda run, x: run.step(run.init(1), x, mask=np.full((1, 4), np.nan)), TypeError, ["mask", "booleans"]),
        (lambda run, x: run.step(run.init(1), x, reset=[True, True]), ValueError, ["reset", "(2,)", "(1,)"]),
        (lambda run, x: run.init(0), ValueError, ["batch_size=0"]),
        (lambda run, x: jc.export(LIVE, PARAMS, "m", chunk=3), ValueError, ["chunk=3", "block of 2"]),
        (lambda run, x: jc.export(LIVE, PARAMS, "m", (None, 4, 2)), ValueError, ["(None, None, 2)", "input_shape"]),
        (lambda run, x: jc.export(LIVE, {}, "m", platforms=["cpu"]), ValueError, ["kernel"]),
        (lambda run, x: jc.export(LIVE.layer.apply_fn, PARAMS, "m", (None, 4, 2), chunk=4), ValueError, ["chunk=4"]),
    ],
)
def test_what_does_not_fit_is_named(exported, tmp_path, monkeypatch, call, kind, facts):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind) as error:
        call(jc.load_exported(exported), np.ones((1, 4, 2), np.float32))
    assert all(fact in str(error.value) for fact in facts), error.value
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("change", [lambda row: row[..., :0], lambda row: row.astype("float16"), None])
def test_a_state_that_does_not_fit_the_program_is_refused(exported, tmp_path, change):
    header, arrays = read_archive(exported, "jaxconv exported model", 3)
    last = max(name for name in arrays if name.startswith("state/"))
    changed = {name: change(row) if change and name == last else row for name, row in arrays.items()}
    if change is None:
        del changed[last]
    header = {name: value for name, value in header.items() if name != "arrays"}
    write_archive(tmp_path / "m", header, changed)
    with pytest.raises(FileError, match="state"):
        jc.load_exported(tmp_path / "m")
