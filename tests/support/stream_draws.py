"""Random graphs that run along time, for hypothesis: residual, parallel, shared and nested, of layers of all kinds."""

from fractions import Fraction

from hypothesis import strategies as st

import jaxconv as jc

SMALL = st.integers(1, 4)
PAIRS = st.tuples(st.integers(0, 3), st.integers(0, 3))
CHANNELS = 2
MOST_STRIDE = 8  # of a whole graph: chunks stay short
WHOLE = {  # layers that read all steps, or weigh each step by itself, and facts of the reason
    "softmax": (lambda: jc.Softmax(1), "all steps"),
    "group": (lambda: jc.GroupNormalization(1), "all steps"),
    "layer": (lambda: jc.LayerNormalization([1, 2]), "all steps"),
    "local": (lambda: jc.LocallyConnected1D(CHANNELS, 1), "own for each step"),
    "prelu": (lambda: jc.PReLU(), "own for each step"),
    "reflect": (lambda: jc.Conv1D(CHANNELS, 3, padding="same", padding_mode="reflect"), "'reflect'"),
    "circular": (lambda: jc.Conv1D(CHANNELS, 3, padding="same", padding_mode="circular"), "'circular'"),
    "backwards": (lambda: jc.GRU(CHANNELS, return_sequences=True, go_backwards=True), "all steps"),
}


def _window(draw, stride=1):
    kernel, dilation = draw(SMALL), draw(SMALL)
    more = {"strides_with_dilation": True} if stride > 1 and dilation > 1 else {}
    return kernel, dilation, {"strides": stride, "dilation_rate": dilation, **more}


@st.composite
def keeping(draw):
    """Draw a layer that keeps the number of steps and channels."""
    kernel, dilation, options = _window(draw)
    before = draw(st.integers(0, (kernel - 1) * dilation))
    padding = draw(st.sampled_from(["same", "causal", (before, (kernel - 1) * dilation - before)]))
    kind = draw(st.sampled_from(["conv", "groups", "depthwise", "separable", "pool", "transposed", "pointwise"]))
    if kind == "depthwise":
        return jc.DepthwiseConv1D(kernel, padding=padding, activation="sigmoid", **options)
    if kind == "separable":
        return jc.SeparableConv1D(CHANNELS, kernel, padding=padding, **options)
    if kind == "pool":
        return draw(st.sampled_from([jc.MaxPooling1D, jc.AveragePooling1D]))(kernel, 1, "same")
    if kind == "transposed":
        return jc.Conv1DTranspose(CHANNELS, kernel, padding="same", dilation_rate=dilation, activation="sigmoid")
    if kind == "pointwise":
        layers = [jc.BatchNormalization(), jc.LayerNormalization(), jc.Activation("tanh"), jc.Dense(CHANNELS)]
        return draw(st.sampled_from(layers))
    return jc.Conv1D(CHANNELS, kernel, padding=padding, groups=1 + (kind == "groups"), activation="sigmoid", **options)


@st.composite
def changing(draw, most):
    """Draw a layer that changes the number of steps, and its rate; strides up to ``most``."""
    stride = min(draw(SMALL), max(most, 1))
    kernel, dilation, options = _window(draw, stride)
    kind = draw(st.sampled_from(["conv", "pool", "transposed", "upsampling", "pad", "crop"]))
    if kind == "conv":
        padding = draw(st.sampled_from(["same", "causal", "valid"]) | PAIRS)
        return jc.Conv1D(CHANNELS, kernel, padding=padding, activation="sigmoid", **options), Fraction(1, stride)
    if kind == "pool":
        pool = draw(st.sampled_from([jc.MaxPooling1D, jc.AveragePooling1D]))
        return pool(kernel, stride, draw(st.sampled_from(["same", "valid"]))), Fraction(1, stride)
    if kind == "transposed":
        reach = (kernel - 1) * dilation
        cut = st.tuples(st.integers(0, reach // 2), st.integers(0, reach // 2))
        padding, up = draw(st.sampled_from(["same", "valid"]) | cut), draw(SMALL)
        more = {"strides_with_dilation": True} if up > 1 and dilation > 1 else {}
        if up > 1 and draw(st.booleans()):
            more["output_padding"] = draw(st.integers(0, up - 1))
        return jc.Conv1DTranspose(
            CHANNELS, kernel, up, padding, dilation_rate=dilation, activation="sigmoid", **more
        ), Fraction(up)
    if kind == "upsampling":
        size = draw(st.integers(1, 3))
        return jc.UpSampling1D(size, interpolation=draw(st.sampled_from(["nearest", "bilinear"]))), Fraction(size)
    return {"pad": jc.ZeroPadding1D, "crop": jc.Cropping1D}[kind](draw(PAIRS)), Fraction(1)


@st.composite
def halving(draw, stride):
    """Draw a layer that leaves one of so many steps: one of a branch beside others of the same stride."""
    kernel, _, options = _window(draw, stride)
    if draw(st.booleans()):
        return jc.Conv1D(CHANNELS, kernel, padding=draw(st.sampled_from(["same", "causal"])), **options)
    pool = draw(st.sampled_from([jc.MaxPooling1D, jc.AveragePooling1D]))
    return pool(kernel, stride, "same") if draw(st.booleans()) else pool(stride, stride)


@st.composite
def part(draw, x, rate, depth):
    """Draw what comes next in a graph; return (value, rate)."""
    kinds = ["keep", "change", "change", *(["residual", "branches", "shared", "nested", "down"] if depth else [])]
    kind = draw(st.sampled_from(kinds))
    chains = st.lists(keeping(), min_size=1, max_size=2)
    merges = st.sampled_from([jc.Add, jc.Multiply, jc.Maximum, jc.Average, jc.Subtract])
    most = int(rate * MOST_STRIDE)
    if kind == "keep":
        return draw(keeping())(x), rate
    if kind == "change":
        layer, ratio = draw(changing(most))
        return layer(x), rate * ratio
    if kind == "residual":
        return jc.Residual(draw(chains))(x), rate
    if kind == "branches":
        branches = [jc.Sequential(draw(chains))(x), draw(keeping())(x)]
        if draw(st.booleans()):
            return draw(merges)()(branches), rate
        return jc.Conv1D(CHANNELS, draw(SMALL), padding="causal")(jc.Concatenate()([*branches, x])), rate
    if kind == "shared":
        layer = draw(keeping())
        first = layer(x)
        return jc.Add()([first, layer(first), draw(keeping())(x)]), rate
    if kind == "down":  # branches of one stride, and sometimes of several, which cannot meet
        stride = min(draw(SMALL), max(most, 1))
        other = stride if draw(st.integers(0, 9)) else max(1, stride - 1)
        return jc.Add()([draw(halving(stride))(x), draw(halving(other))(x)]), rate / stride
    inside = jc.Input((None, CHANNELS))
    y, rate = draw(part(inside, rate, depth - 1))
    y, rate = draw(part(y, rate, depth - 1))
    return jc.Model(inside, y)(x), rate


class Graph:
    """A model, its number of inputs, and the kind in ``WHOLE`` of the layer that cannot stream, or None."""

    def __init__(self, inputs, outputs, whole=None):
        self.layer, self.inputs, self.whole = (
            jc.Model(inputs[0] if len(inputs) == 1 else inputs, outputs),
            len(inputs),
            whole,
        )

    def __repr__(self):
        return repr(self.layer.get_config())


@st.composite
def graphs(draw):
    """Draw a graph of one or two inputs and outputs; seldom with a layer that cannot stream."""
    inputs = [jc.Input((None, CHANNELS)) for _ in range(draw(st.sampled_from([1, 1, 1, 2])))]
    x, rate, whole, taken = inputs[0], Fraction(1), None, None
    if len(inputs) == 2:
        x = jc.Add()([draw(keeping())(one) for one in inputs])
    count = draw(st.integers(1, 3))
    for number in range(count):
        if draw(st.integers(0, 12 * count)) == 7:  # the ends are drawn more often
            whole = draw(st.sampled_from(sorted(WHOLE)))
            return Graph(inputs, WHOLE[whole][0]()(x), whole)
        x, rate = draw(part(x, rate, 2))
        taken = x if number == 0 and count > 1 and draw(st.booleans()) else taken
    return Graph(inputs, x if taken is None else [x, taken])
