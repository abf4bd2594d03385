"""Occlusion and mutations compared with one call of the model for each change, and with captum's results."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.inspect import mutations, occlusion, patches
from jaxconv.inspect.reach import Span, follow, union
from jaxconv.inspect.target import logits
from jaxconv.windows import Window
from tests.support.windows import reads


def randomized(layer, shape, seed=0):
    """Return params with random entries everywhere, so that biases and statistics matter."""
    rng = np.random.default_rng(seed)
    params = jax.eval_shape(lambda key: layer.init_params(key, layer.read_shape(shape)), jax.random.key(0))

    def entries(leaf):
        return jnp.asarray(
            0.1 * np.abs(rng.standard_normal(leaf.shape)) + 0.3 * rng.standard_normal(leaf.shape), leaf.dtype
        )

    statistics = {"moving_variance": jnp.abs, "gamma": jnp.abs}
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: statistics.get(path[-1].key, lambda x: x)(entries(leaf)), params
    )


def naive_occlusion(f, x, window, stride, baseline):
    """Return the mean score differences by calling ``f`` on each occluded input."""
    x = np.asarray(x)
    total, count = np.zeros(x.shape, np.float64), np.zeros(x.shape)
    score = np.asarray(f(jnp.asarray(x)), np.float64)
    starts = [range(0, -(-(n - w) // s) * s + 1, s) for n, w, s in zip(x.shape[1:], window, stride, strict=True)]
    each, changed = list(itertools.product(*starts)), []
    for start in each:
        place = (slice(None), *(slice(a, a + w) for a, w in zip(start, window, strict=True)))
        one = x.copy()
        one[place] = np.broadcast_to(baseline, x.shape)[place]
        changed.append((place, one))
    scores = np.asarray(f(jnp.asarray(np.concatenate([one for _, one in changed]))), np.float64)
    for (place, _), after in zip(changed, scores.reshape(len(changed), len(x)), strict=True):
        total[place] += (score - after).reshape(-1, *(1,) * (x.ndim - 1))
        count[place] += 1
    return total / count


def check_occlusion(layer, shape, window, stride=1, seed=0, target=None):
    params = randomized(layer, shape, seed)
    x = jax.random.normal(jax.random.key(seed + 1), shape)
    baseline = jax.random.normal(jax.random.key(seed + 2), (1, *shape[1:]))

    def target(y):
        return jnp.tanh(y.reshape(len(y), -1)) @ jnp.cos(jnp.arange(y[0].size, dtype=y.dtype))

    sizes = [n if w is None else w for n, w in zip(shape[1:], window, strict=True)]
    steps = [n if w is None else stride for n, w in zip(shape[1:], window, strict=True)]
    found = occlusion(layer, params, x, target, tuple(sizes), tuple(steps), baseline)
    front, last = layer[:-1].apply_fn, layer[-1:].apply_fn
    scores = jax.jit(lambda x: target(logits(lambda h: last(params, h))(front(params, x))))
    wanted = naive_occlusion(scores, x, sizes, steps, np.asarray(baseline))
    scale = max(1.0, np.abs(wanted).max())
    np.testing.assert_allclose(found, wanted, atol=2e-5 * scale, rtol=1e-4)  # float32 sums in another order


def random_layer(rng, rank, data_format):
    """Return a random layer that slides, pools, lengthens, crops, normalizes or branches."""
    dims = f"{rank}D"
    options = {"data_format": data_format}
    padding = str(rng.choice(["valid", "same"]))
    kind = rng.integers(0, 14)
    size, stride, rate = (int(n) for n in (rng.integers(1, 4), rng.integers(1, 4), rng.integers(1, 4)))
    act = [None, "relu", "softmax"][rng.integers(0, 3)]
    if kind <= 2:
        step = {"strides": stride} if rng.integers(2) else {"dilation_rate": rate}
        mode = str(rng.choice(["zeros", "zeros", "reflect", "circular"]))
        return getattr(jc, "Conv" + dims)(
            4, size, padding=padding, activation=act, padding_mode=mode, **step, **options
        )
    if kind == 3:
        return getattr(jc, "Conv" + dims + "Transpose")(
            4, size, strides=stride, padding=padding, activation=act, **options
        )
    if kind == 4:
        return getattr(jc, "DepthwiseConv" + dims)(size, padding=padding, dilation_rate=rate, **options)
    if kind in (5, 6):
        name = "MaxPooling" if kind == 5 else "AveragePooling"
        return getattr(jc, name + dims)(size, stride, padding, **options)
    if kind == 7:
        return getattr(jc, "UpSampling" + dims)(2, interpolation=str(rng.choice(["nearest", "bilinear"])), **options)
    if kind == 8:
        pairs = tuple((int(a), int(b)) for a, b in rng.integers(0, 3, (rank, 2)))
        return getattr(jc, "ZeroPadding" + dims)(pairs if rank > 1 else pairs[0], **options)
    if kind == 9:
        pairs = tuple((int(a), int(b)) for a, b in rng.integers(0, 2, (rank, 2)))
        return getattr(jc, "Cropping" + dims)(pairs if rank > 1 else pairs[0], **options)
    channels = -1 if data_format == "channels_last" else 1
    if kind == 10:
        return jc.BatchNormalization(axis=channels)
    if kind == 11:
        conv = getattr(jc, "Conv" + dims)
        inside = [conv(4, 3, padding="same", dilation_rate=d, activation="relu", **options) for d in (rate, 1)]
        return jc.Residual(inside, shortcut=conv(4, 1, **options))
    if kind == 12:
        conv = getattr(jc, "Conv" + dims)
        branches = [conv(4, k, padding="same", **options) for k in (1, 3)] + [
            [jc.ReLU(), jc.BatchNormalization(axis=channels)]
        ]
        return jc.Parallel(branches, jc.Concatenate(channels))
    return jc.LayerNormalization(axis=channels)


def random_model(rng, rank, data_format, shape):
    """Return a model of up to five random layers that takes the shape, and a head."""
    chosen = []
    while len(chosen) < 4:
        layer = random_layer(rng, rank, data_format)
        try:
            out = jc.Sequential([*chosen, layer]).output_shape(shape)
        except ValueError:
            continue
        if max(out[1:]) < 40 and min(out[1:]) > 0:
            chosen.append(layer)
    head = rng.integers(0, 4)
    largest, mean = (getattr(jc, f"Global{kind}Pooling{rank}D") for kind in ("Max", "Average"))
    heads = [[], [jc.Flatten(data_format), jc.Dense(3)], [largest(data_format)], [mean(data_format, True)]]
    return jc.Sequential([*chosen, *heads[head]])


@pytest.mark.few(1)
@pytest.mark.parametrize("seed", range(80))
def test_occlusion_of_random_models_is_that_of_one_call_for_each_window(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    if seed % 4:  # convolve the change alone, which is less work with many channels
        monkeypatch.setattr(patches, "STORED", 0)
    rank = [1, 1, 2, 1, 3][seed % 5]
    data_format = ["channels_last", "channels_first"][seed % 2]
    lengths = [int(n) for n in rng.integers(*((8, 14), (5, 8), (4, 6))[rank - 1], rank)]
    shape = (2, *lengths, 2) if data_format == "channels_last" else (2, 2, *lengths)
    model = random_model(rng, rank, data_format, shape)
    window = [int(n) for n in rng.integers(1, 4, rank)]
    window = [*window, None] if data_format == "channels_last" else [None, *window]
    check_occlusion(model, shape, window, int(rng.integers(1, 1 + min(w for w in window if w))), seed)


@pytest.mark.few(1)
@pytest.mark.parametrize("number", range(5))
def test_layers_whose_windows_do_not_say_all_are_computed_whole(number):
    conv = jc.Conv1D(4, 3, padding="same", activation="relu")
    choices = (
        [jc.Masking(), conv, jc.GlobalAveragePooling1D()],
        [jc.WeightNormalization(conv), jc.Permute((2, 1)), jc.Softmax(-1), jc.Reshape((-1, 2))],
        [jc.AdaptiveMaxPooling1D(5), conv, jc.GroupNormalization(2), jc.TimeDistributed(jc.Dense(2))],
        [conv, jc.LocallyConnected1D(3, 3), jc.GRU(3, return_sequences=True), conv],
        [conv, jc.PReLU(), jc.Bidirectional(jc.LSTM(2)), jc.Dense(3)],
    )
    check_occlusion(jc.Sequential(choices[number]), (2, 10, 3), (2, None))


def test_a_graph_of_shared_and_nested_layers_with_several_inputs():
    a, b = jc.Input((9, 2), name="a"), jc.Input((9, 2), name="b")
    encoder = jc.Sequential([jc.Conv1D(4, 3, padding="same", activation="tanh"), jc.MaxPooling1D(2, 1, "same")])
    left, right = encoder(a), encoder(b)
    y = jc.Concatenate()([jc.Multiply()([left, right]), jc.ZeroPadding1D((1, 0))(jc.Cropping1D((0, 1))(left))])
    model = jc.Model({"a": a, "b": b}, jc.Dense(2)(jc.Flatten()(jc.Conv1D(3, 4)(y))))
    params = randomized(model, {"a": (None, 9, 2), "b": (None, 9, 2)})
    x = {name: jax.random.normal(jax.random.key(n), (2, 9, 2)) for n, name in enumerate("ab")}
    found = occlusion(model, params, x, 1, window={"a": 2, "b": (3, 1)}, baseline={"a": 0.5, "b": 0})
    for name, window, baseline in (("a", (2, 2), 0.5), ("b", (3, 1), 0.0)):

        @jax.jit
        def f(one, name=name):
            other = jnp.tile(x["b" if name == "a" else "a"], (len(one) // 2, 1, 1))
            return model.apply_fn(params, {name: one, "b" if name == "a" else "a": other})[:, 1]

        wanted = naive_occlusion(f, x[name], window, (1, window[1] if name == "a" else 1), baseline)
        np.testing.assert_allclose(found[name], wanted, atol=1e-5)


# -- Captum's numbers


def dense_net():
    """Return Captum's basic model: identity, a wide layer with a ReLU, a sum."""
    model = jc.Sequential([jc.Dense(3, use_bias=False), jc.Dense(4, "relu"), jc.Dense(2)])
    params = {
        "dense": {"kernel": jnp.eye(3)},
        "dense_1": {"kernel": jnp.ones((3, 4)), "bias": jnp.array([-10.0, 1, 1, 1])},
        "dense_2": {"kernel": jnp.ones((4, 2)), "bias": jnp.zeros(2)},
    }
    return model, params


def test_captums_dense_net():
    model, params = dense_net()
    x = jnp.array([[20.0, 50, 30]])
    np.testing.assert_allclose(occlusion(model, params, x, 0, 1), [[80, 200, 120]], rtol=1e-6)
    np.testing.assert_allclose(occlusion(model, params, x, 0, 2, baseline=10), [[200, 220, 240]], rtol=1e-6)
    np.testing.assert_allclose(occlusion(model, params, x, 0, 2, 2), [[280, 280, 120]], rtol=1e-6)


@pytest.mark.slow
def test_captums_convolution_of_two_inputs():
    images = [jc.Input((4, 4, 1)), jc.Input((4, 4, 1))]
    h = jc.Conv2D(2, 3, activation="relu")(jc.Add()(images))
    h = jc.Permute((3, 1, 2))(h)
    model = jc.Model(images, jc.Dense(4, "relu")(jc.Flatten("channels_last")(h)))
    rows = jnp.broadcast_to(jnp.array([1.0, 1, 1, 1, 1, -1, -1, -1])[:, None], (8, 4))
    params = {
        "conv2d": {"kernel": jnp.ones((3, 3, 1, 2)), "bias": jnp.array([-50.0, -75])},
        "dense": {"kernel": rows, "bias": jnp.zeros(4)},
    }
    x = [jnp.arange(16.0).reshape(1, 4, 4, 1), jnp.ones((1, 4, 4, 1))]
    first, second = occlusion(model, params, x, 0, 4)
    np.testing.assert_allclose([first.min(), first.max(), second.min(), second.max()], [67, 67, 13, 13], rtol=1e-6)
    first, _ = occlusion(model, params, x, 0, (2, 3, 1), (2, 1, 1))
    np.testing.assert_allclose(first[0, 0, :, 0], [17, 17, 17, 17], rtol=1e-6)
    np.testing.assert_allclose(first[0, 2, :, 0], [64, 65.5, 65.5, 67], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_occlusion_is_captums(seed):
    torch = pytest.importorskip("torch")
    captum = pytest.importorskip("captum.attr")
    rng = np.random.default_rng(seed)
    kernels = [rng.standard_normal((3, 2, 3, 2)), rng.standard_normal((2, 3, 2, 2))]
    first, second = torch.nn.Conv2d(2, 3, (3, 2)), torch.nn.Conv2d(3, 2, 2)
    for layer, kernel in zip((first, second), kernels, strict=True):
        layer.weight.data = torch.tensor(kernel, dtype=torch.float32)
    net = torch.nn.Sequential(first, torch.nn.ReLU(), second, torch.nn.Flatten(), torch.nn.LazyLinear(3))
    x = rng.standard_normal((2, 2, 7, 6)).astype("f4")
    net(torch.tensor(x))
    options = {"sliding_window_shapes": (2, 3, 2), "strides": (2, 2, 1), "baselines": 0.3}
    wanted = captum.Occlusion(net).attribute(torch.tensor(x), target=1, **options).detach().numpy()
    first_format = {"data_format": "channels_first"}
    model = jc.Sequential([jc.Conv2D(3, (3, 2), activation="relu", **first_format), jc.Conv2D(2, 2, **first_format),
                           jc.Reshape((-1,)), jc.Dense(3)])  # fmt: skip
    pairs = {"conv2d": (first, (2, 3, 1, 0)), "conv2d_1": (second, (2, 3, 1, 0)), "dense": (net[4], (1, 0))}
    params = {
        name: {"kernel": layer.weight.detach().numpy().transpose(order), "bias": layer.bias.detach().numpy()}
        for name, (layer, order) in pairs.items()
    }
    params = jax.tree.map(jnp.asarray, params)
    found = occlusion(model, params, x, 1, (3, 2), (2, 1), 0.3)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


# -- mutations


def naive_mutations(f, x):
    """Return the score differences by calling ``f`` on each mutated sequence."""
    batch, length, letters = x.shape
    changed = np.repeat(np.asarray(x)[:, None], length * letters, 1).reshape(batch, length, letters, length, letters)
    for step, letter in itertools.product(range(length), range(letters)):
        changed[:, step, letter, step] = np.eye(letters)[letter]
    scores = np.asarray(f(jnp.asarray(changed.reshape(-1, length, letters))), np.float64)
    return scores.reshape(batch, length, letters) - np.asarray(f(x), np.float64)[:, None, None]


def genomic(kind):
    """Return a small network in the manner of Basset or SpliceAI, and a target."""
    if kind == "basset":
        parts = []
        for filters, size, pool in ((5, 5, 3), (4, 3, 2)):
            parts += [
                jc.Conv1D(filters, size, padding="same"),
                jc.BatchNormalization(),
                jc.ReLU(),
                jc.MaxPooling1D(pool),
            ]
        return jc.Sequential([*parts, jc.Flatten(), jc.Dense(6, "relu"), jc.Dense(3, "sigmoid")]), 2

    def block(size, rate):
        conv = [jc.BatchNormalization(), jc.ReLU(), jc.Conv1D(4, size, padding="same", dilation_rate=rate)]
        return jc.Residual([*conv, jc.ReLU(), jc.Conv1D(4, size, padding="same", dilation_rate=rate)])

    blocks = [block(3, 1), block(3, 4), block(5, 6)]
    return jc.Sequential([jc.Conv1D(4, 1), *blocks, jc.Conv1D(3, 1, activation="softmax")]), (15, 1)


@pytest.mark.few(1)
@pytest.mark.parametrize("kind", ["basset", "spliceai"])
def test_mutations_are_those_of_one_call_for_each(kind):
    model, target = genomic(kind)
    x = jax.nn.one_hot(jax.random.randint(jax.random.key(1), (2, 30), 0, 4), 4)
    params = randomized(model, x.shape)
    last = list(model.layers)[-1]
    linear = jc.Sequential([*model.layers[:-1], type(last)(3, *([1] if kind == "spliceai" else []), name=None)])
    weights = dict(zip(linear.names, [params.get(name) for name in model.names], strict=True))
    weights = {name: value for name, value in weights.items() if value}
    where = target if isinstance(target, tuple) else (target,)
    wanted = naive_mutations(jax.jit(lambda x: linear.apply_fn(weights, x)[(slice(None), *where)]), x)
    found = mutations(model, params, x, target)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert (np.asarray(found)[np.asarray(x) == 1] == 0).all()
    if kind == "basset":
        traced = jax.jit(lambda params, x: mutations(model, params, x, jnp.array([where, where])))
        np.testing.assert_allclose(traced(params, x), wanted, atol=1e-5)


# -- what a change reaches


@pytest.mark.few(5)
@pytest.mark.parametrize("seed", range(200))
def test_spans_contain_all_outputs_that_read_the_change_and_reads_all_that_these_read(seed):
    rng = np.random.default_rng(seed)
    size, stride, rate, length, width = (int(n) for n in rng.integers(1, [5, 4, 4, 20, 6]))
    length, transposed = length + size * rate + 3, bool(rng.integers(2))
    padding = ["valid", "same", (int(rng.integers(3)), int(rng.integers(3)))][rng.integers(3)]
    if transposed and isinstance(padding, tuple):
        padding = (0, 0)
    window = Window(size, stride, rate, padding, transposed=transposed)
    starts = np.arange(length - width + 1)
    reading, total = follow(window, Span(starts, width), length), window.output_length(length)
    matrix = reads(window, length)
    for k, start in enumerate(starts):
        first, last = int(reading.span.starts[k]), int(reading.span.starts[k]) + reading.span.width - 1
        reached = np.flatnonzero(matrix[:, start : start + width].any(1))
        assert first >= 0 and last < total
        assert not len(reached) or (first <= reached[0] and reached[-1] <= last)
        read = np.flatnonzero(matrix[first : last + 1].any(0))
        low, high = int(reading.reads.starts[k]), int(reading.reads.starts[k]) + reading.reads.width - 1
        assert not len(read) or (low <= read[0] and read[-1] <= high)


def test_a_union_stays_inside_the_axis():
    both = union([Span(np.array([0, 6, 7]), 1), Span(np.array([3, 6, 4]), 3)], 8)
    assert (both.starts >= 0).all() and (both.starts + both.width <= 8).all()


# -- bad input


def test_bad_windows_are_named():
    model, params = jc.Sequential([jc.Conv1D(2, 3), jc.Flatten(), jc.Dense(2)]), None
    params = model.init(jax.random.key(0), (None, 8, 2))[0]
    x = jnp.ones((1, 8, 2))
    for options, facts in (
        ({"window": 9}, r"9 steps.*\(1, 8, 2\).*at most 8"),
        ({"window": 2, "stride": 3}, "stride 3.*2 steps"),
        ({"window": (1, 2, 3)}, "3 sizes"),
        ({"window": 0}, "window=0.*at least 1"),
        ({"window": 2, "baseline": np.ones(3)}, r"\(3,\).*\(1, 8, 2\)"),
        ({"window": 2, "target": 2}, "2 is out of range.*2 classes"),
    ):
        with pytest.raises(ValueError, match=facts):
            occlusion(model, params, x, **{"target": 0, **options})
    for options, facts in (({"window": 2.5}, "2.5"), ({}, "window=None"), ({"window": 2, "target": 0.5}, "integer")):
        with pytest.raises(TypeError, match=facts):
            occlusion(model, params, x, **{"target": 0, **options})
    with pytest.raises(TypeError, match=r"0.5.*int32"):
        occlusion(model, params, x.astype(int), 0, 2, baseline=0.5)


def test_a_sequence_that_is_not_one_hot_is_named():
    model = jc.Sequential([jc.Conv1D(2, 3), jc.Flatten(), jc.Dense(2)])
    params = model.init(jax.random.key(0), (None, 8, 4))[0]
    x = jax.nn.one_hot(jnp.arange(8) % 4, 4)[None]
    with pytest.raises(ValueError, match="step 5 of example 0"):
        mutations(model, params, x.at[0, 5].set(0.25), 0)
    with pytest.raises(ValueError, match=r"7 is out of range.*2 classes"):
        mutations(model, params, x, 7)
    with pytest.raises(ValueError, match=r"\(1, 8\)"):
        mutations(jc.Dense(3), jc.Dense(3).init(jax.random.key(0), (None, 8))[0], jnp.ones((1, 8)), 0)
