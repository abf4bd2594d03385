"""fit, evaluate and predict over several devices: the results of one device; errors for invalid shardings."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import jaxconv as jc
from jaxconv.files.errors import FileError
from jaxconv.training import EpochEvent, evaluate, fit, predict

P = PartitionSpec
RNG = np.random.default_rng(3)
X = RNG.normal(size=(37, 4)).astype(np.float32)
Y = (X.sum(1) > 0).astype(np.int64)
LAYER = jc.Sequential(
    [jc.Dense(8, activation="tanh"), jc.BatchNormalization(), jc.Dropout(0.4), jc.Dense(2, activation="softmax")]
)
PARAMS, APPLY = LAYER.init(jax.random.key(0), (None, 4))
OPTIONS = {"loss": "sparse_categorical_crossentropy", "batch_size": 16}


def mesh(*shape, names="ab"):
    return jax.make_mesh(shape, tuple(names[: len(shape)]), devices=jax.devices()[: int(np.prod(shape))])


def over(*spec, of=(8,)):
    """Return a sharding over the first devices, on a mesh with Explicit axes, the default of JAX."""
    return NamedSharding(mesh(*of), P(*spec))


def train(params=PARAMS, x=X, y=Y, **options):
    return fit(APPLY, params, x, y, **OPTIONS | {"epochs": 2} | options)


def assert_close(a, b, tolerance=1e-6):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)


ALL = {"accumulate": 2, "ema": 0.9, "clip_norm": 1.0, "class_weight": {0: 2.0}}


@pytest.mark.parametrize(
    ("sharding", "options"),
    [
        (over(("b", "a"), of=(2, 4)), {"epochs": 1}),
        pytest.param(over("a", of=(2,)), ALL | {"validation_data": (X, Y)}, marks=pytest.mark.slow),
        pytest.param("data", {}, marks=pytest.mark.slow),
        pytest.param(P("rows"), {"sample_weight": RNG.random(37)}, marks=pytest.mark.slow),
        pytest.param(over("a", "b", of=(4, 2)), {"validation_split": 0.3}, marks=pytest.mark.slow),
    ],
)
def test_the_numbers_are_those_of_one_device(sharding, options):
    """37 samples in batches of 16: the last batch does not divide over eight devices."""
    one, many = train(**options), train(sharding=sharding, **options)
    assert_close(many.history, one.history)
    assert_close(many.params, one.params)
    evaluated = evaluate(APPLY, many.params, X, Y, **OPTIONS, sharding=sharding)
    assert_close(evaluated, evaluate(APPLY, one.params, X, Y, **OPTIONS))
    assert_close(predict(APPLY, many.params, X, 16, sharding=sharding), predict(APPLY, one.params, X, 16))


def _fcn(rng):
    layers = []
    for size in (8, 5, 3):
        layers += [jc.Conv1D(8, size, padding="same"), jc.BatchNormalization(), jc.ReLU()]
    layers += [jc.GlobalAveragePooling1D(), jc.Dense(2, activation="softmax")]
    return jc.Sequential(layers), rng.normal(size=(16, 24, 1)), rng.integers(0, 2, 16), P("a")


def _grouped(rng):
    layers = [
        jc.Conv2D(8, 3, strides=2, padding="same"), jc.BatchNormalization(), jc.ReLU(),
        jc.DepthwiseConv2D(3, padding="same"), jc.ReLU(), jc.Conv2D(8, 3, groups=4, padding="same"),
        jc.GlobalMaxPooling2D(), jc.Dense(2, activation="softmax"),
    ]  # fmt: skip
    return jc.Sequential(layers), rng.normal(size=(16, 8, 8, 3)), rng.integers(0, 2, 16), P("a")


def _unet(rng):
    """Sharded along depth: a volume on 8 devices."""
    x = inputs = jc.Input((16, 4, 4, 1))
    skip = x = jc.Conv3D(4, 3, padding="same", activation="relu")(x)
    x = jc.Conv3D(8, 3, padding="same", activation="relu")(jc.MaxPooling3D(2)(x))
    x = jc.Concatenate()([skip, jc.Conv3DTranspose(4, 2, strides=2)(x)])
    model = jc.Model(inputs, jc.Conv3D(1, 3, padding="same")(x))
    return model, rng.normal(size=(2, 16, 4, 4, 1)), rng.normal(size=(2, 16, 4, 4, 1)), P(None, "a")


def _tcn(rng, dropout=0.3):
    x = rng.normal(size=(16, 12, 2))
    for row in x:
        row[rng.integers(3, 12) :] = 0
    layers = [jc.Masking()]
    for dilation in (1, 2):
        inside = [jc.Conv1D(4, 3, dilation_rate=dilation, padding="causal", activation="tanh"), jc.Dropout(dropout)]
        layers.append(jc.Sequential(inside))
    return jc.Sequential([*layers, jc.Dense(1)]), x, rng.normal(size=(16, 12, 1)), P("a")


@pytest.mark.slow
@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("build", [_fcn, _grouped, _unet, _tcn])
def test_the_losses_of_20_steps_are_those_of_one_device(build, x64):
    with jax.enable_x64(x64):
        model, x, y, spec = build(np.random.default_rng(7))
        model = dataclasses.replace(model, dtype="float64" if x64 else None)
        x, y = x.astype(np.float64 if x64 else np.float32), y.astype(np.float64 if x64 and y.ndim > 1 else y.dtype)
        params, apply_fn = model.init(jax.random.key(0), (None, *x.shape[1:]))
        params = jax.tree.map(lambda leaf: leaf.astype(x.dtype), params)
        loss = "mse" if y.ndim > 1 else "sparse_categorical_crossentropy"
        options = {"loss": loss, "optimizer": {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9}, "epochs": 20}
        runs = [
            fit(apply_fn, params, x, y, **options, batch_size=16, sharding=sharding)
            for sharding in (None, *(NamedSharding(mesh(count), spec) for count in (1, 2, 8)))
        ]
    losses = [[log["loss"] for log in run.history] for run in runs]
    np.testing.assert_allclose(losses[1:], losses[:1] * 3, rtol=1e-12 if x64 else 1e-6)
    assert losses[0][-1] < losses[0][0]


@pytest.mark.slow
def test_accumulated_batches_with_unequal_masks_are_one_large_batch():
    model, x, y, _ = _tcn(np.random.default_rng(7), dropout=0.0)
    x, y = np.concatenate([x, x[:, ::-1]]).astype(np.float32), np.concatenate([y, y]).astype(np.float32)
    params, apply_fn = model.init(jax.random.key(0), (None, *x.shape[1:]))
    options = {"loss": "mse", "optimizer": {"name": "sgd", "learning_rate": 0.05}, "epochs": 3}
    one = fit(apply_fn, params, x, y, **options, batch_size=32)
    four = fit(apply_fn, params, x, y, **options, batch_size=8, accumulate=4, sharding="data")
    assert_close((four.history, four.params), (one.history, one.params))


@pytest.mark.slow
def test_large_leaves_that_are_sharded_stay_so_and_need_a_share_of_the_memory():
    """A kernel cut over its filters: also its moments in the optimizer, its average, and what is returned."""
    sharding = over("a")
    kernel = jax.device_put(PARAMS["dense"]["kernel"], over(None, "a"))
    params = PARAMS | {"dense": PARAMS["dense"] | {"kernel": kernel}}
    seen = []
    many = train(params, sharding=sharding, ema=0.9, callbacks=[lambda event: seen.append(event)], best_weights="loss")
    one = train(ema=0.9, best_weights="loss")
    assert_close(many.history, one.history)
    assert_close(many.params, one.params)
    events = [event for event in seen if isinstance(event, EpochEvent)]
    for tree in (events[0].params, many.params):
        assert {shard.data.shape for shard in tree["dense"]["kernel"].addressable_shards} == {(4, 1)}
        assert tree["dense"]["bias"].sharding.is_fully_replicated
    assert many.params["dense"]["kernel"].sharding == over(None, "a")
    with pytest.raises(ValueError, match=r"dense/kernel.*sharding is not given"):
        train(params)
    with pytest.raises(ValueError, match=r"dense/kernel.*sharded over.*'b': 8"):
        train(params, sharding=NamedSharding(mesh(8, names="b"), P("b")))


@pytest.mark.slow
def test_a_checkpoint_is_whole_and_resumes_on_any_number_of_devices(tmp_path):
    class Crash(Exception):
        pass

    def crash(event):
        if isinstance(event, EpochEvent) and event.epoch == 2:
            raise Crash

    file, options = tmp_path / "run.npz", {"ema": 0.9, "epochs": 4}
    uninterrupted = train(sharding="data", **options)
    for devices in (8, 2, None):
        sharding = None if devices is None else over("a", of=(devices,))
        with pytest.raises(Crash):
            train(sharding="data", checkpoint=file, callbacks=[crash], **options)
        resumed = train(sharding=sharding, checkpoint=file, resume=True, **options)
        assert_close(resumed.params, uninterrupted.params)
        if devices == 8:
            assert resumed.history == uninterrupted.history
            jax.tree.map(np.testing.assert_array_equal, resumed.params, uninterrupted.params)
        with np.load(file) as arrays:
            assert arrays["state/trainable/dense/kernel"].shape == (4, 8)
        file.unlink()
    other = jc.Sequential([jc.Dense(7), jc.Dense(2, activation="softmax")])
    train(sharding="data", checkpoint=file, epochs=1)
    params, apply_fn = other.init(jax.random.key(0), (None, 4))
    with pytest.raises(FileError, match="model"):
        fit(apply_fn, params, X, Y, **OPTIONS, sharding="data", checkpoint=file, resume=True)


@pytest.mark.parametrize(
    ("x", "sharding", "options", "error", "facts"),
    [
        (X, "data", {"batch_size": 4}, ValueError, "batch_size is 4.*8 devices.*multiple of 8"),
        (X, "data", {"batch_size": 12}, ValueError, "batch_size is 12.*multiple of 8"),
        (X, "batch", {}, TypeError, "'batch'.*NamedSharding.*'data'"),
        (X, 8, {}, TypeError, "sharding is 8"),
        (X, over("a", None, "b", of=(4, 2)), {}, ValueError, r"3 axes.*\(16, 4\)"),
        (X, P("a", "b"), {}, ValueError, "2 axes.*set_mesh"),
        (X, over("a", "b", of=(1, 8)), {}, ValueError, r"axis 1.*\(16, 4\).*8 devices.*length is 8"),
        (jax.device_put(X[:32], over("a")), None, {}, ValueError, r"\(32, 4\) is on 8 devices.*sharding='data'"),
    ],
)
def test_what_cannot_be_sharded_is_refused(x, sharding, options, error, facts):
    options = OPTIONS | options
    for call in (fit, evaluate):
        with pytest.raises(error, match=facts):
            call(APPLY, PARAMS, x, Y[: len(x)], **options, sharding=sharding)
    with pytest.raises(error, match=facts):
        predict(APPLY, PARAMS, x, options["batch_size"], sharding=sharding)


def test_an_axis_that_the_mesh_lacks_is_named():
    with jax.set_mesh(mesh(8)), pytest.raises(ValueError, match=r"'rows'.*\('a',\)"):
        train(sharding=P("rows"))


def test_shards_shorter_than_a_window_give_the_numbers_of_one_device():
    """Two steps on each device, and a window of nine: the halo comes from several neighbours."""
    params, apply_fn = jc.Conv1D(2, 9, padding="same").init(jax.random.key(0), (None, 16, 3))
    x = RNG.normal(size=(4, 16, 3)).astype(np.float32)
    assert_close(predict(apply_fn, params, x, sharding=over(None, "a")), predict(apply_fn, params, x))
    with pytest.raises(ValueError, match=r"axis 1.*\(4, 15, 3\) over 8 devices.*lengths are 8 and 16"):
        predict(apply_fn, params, x[:, :15], sharding=over(None, "a"))


@pytest.mark.slow
def test_a_mesh_of_the_caller_is_used_and_what_is_returned_is_on_it():
    with jax.set_mesh(mesh(8)):
        fitted = train(sharding=P("a"))
        assert jnp.sum(fitted.params["dense"]["bias"]).sharding.mesh == jax.sharding.get_mesh()
        predict(APPLY, fitted.params, X, 16, sharding=P("a"))
    assert_close(fitted.history, train().history)
    assert len(train(fitted.params, epochs=1).params["dense"]["bias"].sharding.device_set) == 1


def test_rows_are_read_once_and_only_where_they_are_needed(tmp_path):
    """Of a memory map each device reads the rows and columns of its own shard."""
    read = []

    class Counted(np.ndarray):
        def __getitem__(self, index):
            part = super().__getitem__(index)
            if isinstance(index, tuple) and self.shape == X.shape:
                read.append(np.shape(part))
            return part

    train(x=X.view(Counted), sharding=over("a", "b", of=(4, 2)), epochs=1)
    assert read == [(4, 2)] * 16 + [(5, 2)] * 2


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells which memory is not of files")
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_file_larger_than_the_memory_in_use_is_trained_on(tmp_path, shuffle):
    """128 MB in batches of 1 MB; pages of the file do not count, the system takes them back."""
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (512, 65536))
    x[:] = RNG.normal(size=(1, 65536))
    params, apply_fn = jc.Sequential([jc.Reshape((1024, 64)), jc.GlobalAveragePooling1D(), jc.Dense(1)]).init(
        jax.random.key(0), (None, 65536)
    )
    used = []

    def anonymous(event):
        status = Path("/proc/self/status").read_text()
        used.append(int(status.split("RssAnon:")[1].split()[0]) / 1e3)

    options = {"loss": "mse", "batch_size": 4, "shuffle": shuffle, "callbacks": [anonymous]}
    fit(apply_fn, params, x[:8], Y[:8, None], **options)  # compiles
    used.clear()
    fit(apply_fn, params, x, np.zeros((512, 1)), **options)
    assert max(used) - used[0] < 32


@pytest.mark.slow
def test_a_loader_and_a_batch_of_several_inputs_are_sharded():
    batches = [(X[:16], Y[:16]), (X[16:32], Y[16:32]), (X[32:], Y[32:])]
    assert_close(train(x=batches, y=None, sharding="data").history, train(x=batches, y=None).history)
    ins = {"left": jc.Input((4,)), "right": jc.Input((2,))}
    params, apply_fn = jc.Model(ins, jc.Dense(1)(jc.Concatenate()(list(ins.values())))).init(jax.random.key(0))
    x = {"left": X, "right": X[:, :2]}
    assert_close(predict(apply_fn, params, x, sharding="data"), apply_fn(params, x))


@pytest.mark.slow
def test_rematerialized_blocks_give_the_same_numbers():
    blocks = [jc.Dense(8, activation="tanh"), jc.Sequential([jc.BatchNormalization(), jc.Dropout(0.4)])]
    model = jc.Sequential([*blocks, jc.Dense(2, activation="softmax")])
    params, apply_fn = model.init(jax.random.key(0), (None, 4))
    one = fit(apply_fn, params, X, Y, **OPTIONS, epochs=2)
    for options in ({}, {"accumulate": 2}, {"sharding": "data"}):
        want = fit(apply_fn, params, X, Y, **OPTIONS, epochs=2, **options) if "accumulate" in options else one
        got = fit(apply_fn, params, X, Y, **OPTIONS, epochs=2, remat=True, **options)
        assert_close((got.history, got.params), (want.history, want.params))
    with pytest.raises(ValueError, match=r"remat.*Dense"):
        fit(*jc.Dense(1).init(jax.random.key(0), (None, 4))[::-1], X, X[:, :1], loss="mse", remat=True)
    with pytest.raises(ValueError, match=r"remat is 1.*True or False"):
        train(remat=1)
