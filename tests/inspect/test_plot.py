"""Plots: the drawn values, the given axes, and colours that everyone can distinguish."""

import itertools
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxconv import Add, Concatenate, Conv1D, Dense, Input, Model, ReLU, Sequential
from jaxconv.inspect import ReceptiveField, plot, receptive_field, spectrum
from jaxconv.inspect.plot import style
from jaxconv.training import fit

SIGNAL, IMAGE = np.sin(np.arange(12.0))[:, None], np.arange(48.0).reshape(4, 4, 3)


def assert_legible(figure):
    """Check that no text is cut off at the figure's edge and that no two tick labels of an axis overlap."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            labels = [label for label in axis.get_ticklabels() if label.get_text() and axis.get_visible()]
            boxes = [label.get_window_extent() for label in labels]
            low, high = sorted(axis.get_view_interval())
            places = axis.get_majorticklocs()
            boxes = [box for box, place in zip(boxes, places, strict=False) if low - 1e-9 <= place <= high + 1e-9]
            for box, other in itertools.pairwise(boxes):
                assert not box.overlaps(other), [label.get_text() for label in labels]
            for text in (axis.label, ax.title):
                box = text.get_window_extent()
                if text.get_text():
                    assert box.x0 >= -1 and box.y0 >= -1, text
                    assert box.x1 <= canvas.get_width_height()[0] + 1, text
                    assert box.y1 <= canvas.get_width_height()[1] + 1, text


@pytest.mark.parametrize(
    ("values", "x"),
    [
        (np.arange(12.0) - 6, SIGNAL),
        (np.arange(24.0).reshape(12, 2) - 9, np.concatenate([SIGNAL, -SIGNAL], 1)),
        ([1.0, -1.0, 2.0], SIGNAL),
        (np.zeros((12, 1)), SIGNAL * 0),
        (IMAGE - 20, IMAGE),
        (np.ones((2, 2)), IMAGE),
        (np.full((4, 4), np.nan), IMAGE[..., :1]),
        (np.arange(5.0), None),
        (np.eye(5), None),
    ],
    ids=["signal", "channels", "coarse", "zeros", "image", "coarse image", "not a number", "alone", "matrix"],
)
def test_heat_draws_signals_and_images(values, x):
    figure = plot.heat(values, x)
    assert_legible(figure)
    assert figure._repr_png_()[:4] == b"\x89PNG"


def test_heat_puts_each_value_at_its_place_with_colours_symmetric_around_0():
    values = np.zeros((4, 6))
    values[1, 2], values[3, 5] = 1.0, -0.5
    (image,) = plot.heat(values).axes[0].images
    colours = np.asarray(image.get_array())
    assert np.allclose(colours[0, 0], 1)
    red, green, blue = colours[1, 2]
    assert blue > green > red
    red, green, blue = colours[3, 5]
    assert red > green > blue
    (image,) = plot.heat([3.0, -1.0, 0.0], SIGNAL[:3]).axes[0].images
    assert image.get_array().tolist() == [[3.0, -1.0, 0.0]] and image.norm.vmin == -image.norm.vmax == -3.0


def test_heat_repeats_coarse_values_and_adds_channels():
    (image,) = plot.heat([1.0, 2.0, 3.0], SIGNAL).axes[0].images
    assert image.get_array().tolist() == [[1.0] * 4 + [2.0] * 4 + [3.0] * 4]
    opposite = np.stack([np.ones((4, 4)), -np.ones((4, 4)), np.zeros((4, 4))], -1)
    (image,) = plot.heat(opposite, np.ones((4, 4, 3))).axes[0].images
    assert np.allclose(image.get_array(), 1)  # 1 - 1 + 0: white


def test_heat_draws_on_the_axes_that_are_given():
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert plot.heat(np.arange(12.0), SIGNAL, ax=right) is figure
    assert right.lines and right.images and not left.lines and not left.images


def test_feature_maps_and_kernels_are_tiles_in_order():
    maps = np.arange(2 * 3 * 4.0).reshape(2, 3, 4)
    board = np.asarray(plot.features(maps).axes[0].images[0].get_array())
    assert board.shape == (4, 6) and (board[:2, 3:] == maps[..., 1]).all() and (board[2:, :3] == maps[..., 2]).all()
    kernel = np.random.default_rng(0).standard_normal((2, 2, 4, 5))
    board = np.asarray(plot.kernels(kernel).axes[0].images[0].get_array())
    assert board.shape == (8, 10) and (board[2:4, 8:10] == kernel[..., 1, 4]).all()
    figure = plot.kernels(kernel[0, :, :1])
    lines = figure.axes[0].lines[1::2]  # every other line is a zero line
    assert len(lines) == 5
    heights = np.array([np.ptp(line.get_ydata()) for line in lines])
    assert np.allclose(heights / heights.max(), np.ptp(kernel[0, :, 0], 0) / np.ptp(kernel[0, :, 0], 0).max())


@pytest.mark.parametrize("shape", [(30, 20), (9, 300), (6, 5, 7), (1, 1, 1)])
def test_feature_maps_of_any_size_are_legible(shape):
    figure = plot.features(np.random.default_rng(0).standard_normal(shape))
    assert_legible(figure)
    assert str(shape[-1]) in figure.axes[0].get_title()


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "shape", [(9, 1, 16), (5, 8, 3), (3, 3, 1, 7), (3, 3, 3, 4), (3, 3, 40, 50), (1, 1, 1)], ids=str
)
def test_kernels_of_any_size_are_legible(shape):
    figure = plot.kernels(np.random.default_rng(0).standard_normal(shape))
    assert_legible(figure)
    assert str(shape[-1]) in figure.axes[0].get_title()


def test_the_graph_has_a_box_for_each_call_and_no_two_overlap():
    x = Input((12, 1))
    first = Conv1D(4, 3, padding="same")(x)
    second = ReLU()(first)
    joined = Concatenate()([Conv1D(4, 3, padding="same")(second), first])
    model = Model(x, Dense(2)(Concatenate()([joined, Conv1D(3, 1)(second)])))
    figure = plot.graph(model)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[::2] == ["input", *(call.name for call in model.graph.calls)] and texts[-1] == "(batch, 12, 2)"
    assert_legible(figure)
    boxes = [p.get_window_extent() for p in figure.axes[0].patches if type(p).__name__ == "FancyBboxPatch"]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    renderer = figure.canvas.get_renderer()
    for box, text in zip(boxes, figure.axes[0].texts[::2], strict=True):
        inside = text.get_window_extent(renderer)
        assert box.x0 <= inside.x0 and inside.x1 <= box.x1


def test_a_graph_of_several_inputs_names_them():
    a, b = Input((4,), name="left"), Input((4,), name="right")
    texts = [text.get_text() for text in plot.graph(Model([a, b], Add()([a, b]))).axes[0].texts]
    assert texts[::2] == ["left", "right", "add"]


def test_curves_have_a_panel_for_each_metric_or_the_one_that_is_asked_for():
    rows = [{"epoch": i, "loss": 9.0**-i, "accuracy": 0.5, "val_loss": 1.0, "seconds": 2.0} for i in range(1, 4)]
    figure = plot.curves(rows, test={"loss": 0.5}, best_epoch=2)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["loss", "accuracy"]
    assert figure.axes[0].get_yscale() == "log" and figure.axes[1].get_yscale() == "linear"
    assert_legible(figure)
    own = Figure()
    assert plot.curves(rows, own.subplots(), metric="accuracy") is own
    assert own.axes[0].lines[0].get_ydata().tolist() == [0.5] * 3
    with pytest.raises(ValueError, match=r"'recall'.*\['loss', 'accuracy'\]"):
        plot.curves(rows, metric="recall")
    with pytest.raises(ValueError, match="0 rows"):
        plot.curves([])
    for other in ({"loss": [1.0, 0.5]}, [1.0, 0.5]):
        with pytest.raises(TypeError, match=rf"rows are a {type(other).__name__}; .*result of fit.*dict per epoch"):
            plot.curves(other)


def test_curves_take_the_result_of_fit():
    params, apply_fn = Dense(1).init(jax.random.key(0), (None, 1))
    x = np.arange(6.0)[:, None]
    fitted = fit(apply_fn, params, x, 2 * x, loss="mse", metrics="mae", epochs=3, best_weights="loss")
    figure = plot.curves(fitted)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["loss", "mae"]
    lines = {line.get_label(): line for line in figure.axes[1].lines}
    assert list(lines["train"].get_ydata()) == [log["mae"] for log in fitted.history]
    assert f"saved (epoch {fitted.best_epoch})" in lines


@pytest.mark.slow
def test_the_loss_surface_is_the_loss_along_directions_with_the_norms_of_the_filters():
    params = {"kernel": jnp.arange(1.0, 7.0).reshape(1, 3, 2), "bias": jnp.ones(2), "step": jnp.ones(2, jnp.int32)}
    seen = []

    def loss(params):
        jax.debug.callback(lambda **leaves: seen.append(leaves), **params)
        return jnp.sum(params["kernel"] ** 2) + params["bias"].sum()

    figure = plot.loss_surface(loss, params, jax.random.key(0), span=2.0, points=3)
    jax.effects_barrier()
    assert len(seen) == 9 and all((one["bias"] == 1).all() and (one["step"] == 1).all() for one in seen)
    steps = np.array([one["kernel"] - params["kernel"] for one in seen])
    own = np.linalg.norm(params["kernel"], axis=(0, 1))
    norms = np.linalg.norm(steps, axis=(1, 2))
    assert np.isclose(norms, 2 * own, rtol=1e-5).all(1).sum() == 4  # of the nine places, those along one direction
    assert_legible(figure)
    with pytest.raises(ValueError, match="two or more axes"):
        plot.loss_surface(lambda w: w.sum(), jnp.ones(3), jax.random.key(0))
    minimum = plot.loss_surface(lambda w: ((w - jnp.eye(3)) ** 2).sum(), jnp.eye(3), jax.random.key(0), points=5)
    levels = minimum.axes[0].collections[0].levels  # a loss of 0 does not take all of them
    assert levels[-1] / levels[0] == pytest.approx(1000)
    with pytest.raises(ValueError, match="points=1"):
        plot.loss_surface(lambda w: w.sum(), jnp.eye(3), jax.random.key(0), points=1)


@pytest.mark.parametrize(
    ("draw", "shape"),
    [(plot.features, (1, 2, 3, 4)), (plot.features, (3,)), (plot.kernels, (3, 3)), (plot.kernels, (3, 3, 3, 1, 1))],
)
def test_features_and_kernels_refuse_other_ranks(draw, shape):
    with pytest.raises(ValueError, match=re.escape(str(shape))):
        draw(np.ones(shape))


@pytest.mark.parametrize("shape", [(1,), (3, 1, 2), (9, 2, 3)], ids=str)
def test_few_responses_are_lines_with_the_magnitudes_of_the_fourier_transform(shape):
    kernel = np.random.default_rng(0).standard_normal(shape)
    figure = plot.response(spectrum(kernel, 33))
    assert_legible(figure)
    (ax,) = figure.axes
    expected = np.abs(np.fft.rfft(kernel, 64, axis=0)).reshape(33, -1, shape[-1] if len(shape) > 1 else 1)
    expected = expected.transpose(2, 1, 0).reshape(-1, 33)
    assert np.allclose([line.get_ydata() for line in ax.lines], expected)
    assert all((line.get_xdata() == np.linspace(0, 0.5, 33)).all() for line in ax.lines)
    if len(expected) > 1:
        names = [text.get_text() for text in ax.get_legend().get_texts()]
        assert names[-1] == ("filter 1" if shape[1] == 1 else "filter 2, channel 1") and len(set(names)) == len(names)


@pytest.mark.parametrize("shape", [(5, 1, 7), (5, 3, 40), (3, 20, 1), (4, 900)], ids=str)
def test_many_responses_are_rows_at_the_places_of_their_filters(shape):
    kernel = np.random.default_rng(0).standard_normal(shape)
    figure = plot.response(spectrum(kernel, 17))
    assert_legible(figure)
    (image,) = figure.axes[0].images
    left, right, bottom, top = image.get_extent()
    assert np.allclose([left, right], [-1 / 64, 0.5 + 1 / 64]) and (bottom, top) == (shape[-1] - 0.5, -0.5)
    expected = np.abs(np.fft.rfft(kernel, 32, axis=0))
    rows = image.get_array().reshape(shape[-1], -1, 17)
    assert np.allclose(rows[-1, -1], expected.reshape(17, -1)[:, -1])
    assert np.allclose(rows[0, -1], expected.reshape(17, -1, shape[-1])[:, -1, 0]) and image.norm.vmin == 0


def test_the_receptive_field_is_a_curve_or_an_image_with_the_theoretical_field_around():
    model = Sequential([Conv1D(2, 3, kernel_initializer="ones") for _ in range(3)])
    params, apply_fn = model.init(jax.random.key(0), (None, 15, 1))
    field = receptive_field(apply_fn, params, (None, 15, 1))
    figure = plot.receptive_field(field)
    assert_legible(figure)
    curve, *edges = figure.axes[0].lines
    assert np.allclose(curve.get_ydata(), field.gradient) and "7 steps" in figure.axes[0].get_title()
    read = np.flatnonzero(curve.get_ydata())
    assert [edge.get_xdata()[0] for edge in edges] == [read[0] - 0.5, read[-1] + 0.5]

    gradient = np.arange(12.0).reshape(3, 4)
    field = ReceptiveField((1, 2), (-2, 1), (3, 3), (6, 3), gradient, (1.0, 1.0))
    own = Figure()
    ax = own.subplots()
    assert plot.receptive_field(field, ax=ax) is own and "6 x 3" in ax.get_title()
    assert_legible(own)
    assert (ax.images[0].get_array() == gradient).all()
    assert ax.patches[-1].get_bbox().extents.tolist() == [0.5, -2.5, 3.5, 3.5]  # left, top, right, bottom
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert left < -0.5 and right > 3.5 and bottom > 3.5 and top < -2.5  # the padding, too


@pytest.mark.parametrize("shape", [(1,), (300,), (2, 90), (90, 2), (1, 1)], ids=str)
def test_receptive_fields_of_any_size_are_legible(shape):
    size = tuple(9 for _ in shape)
    field = ReceptiveField((0,) * len(shape), (-4,) * len(shape), (4,) * len(shape), size, np.zeros(shape))
    assert_legible(plot.receptive_field(field))


@pytest.mark.parametrize("given", [np.ones((3, 1, 4)), (np.ones(3),), (np.ones(3), np.ones((4, 2)))])
def test_the_response_refuses_what_is_not_a_spectrum(given):
    with pytest.raises(ValueError, match=r"inspect\.spectrum"):
        plot.response(given)


def test_receptive_fields_without_gradient_or_with_three_axes_are_refused():
    with pytest.raises(ValueError, match="effective=True"):
        plot.receptive_field(ReceptiveField((0,), (0,), (2,), (3,)))
    with pytest.raises(ValueError, match=r"\(2, 3, 4\)"):
        plot.receptive_field(ReceptiveField((0,) * 3, (0,) * 3, (2,) * 3, (3,) * 3, np.ones((2, 3, 4))))


def test_the_graph_needs_a_layer_with_layers_inside():
    with pytest.raises(ValueError, match="Dense"):
        plot.graph(Dense(3))


@pytest.mark.parametrize(
    ("values", "x", "facts"),
    [
        (np.ones((1, 12, 1)), SIGNAL, [r"\(1, 12, 1\)", r"\(12, 1\)"]),
        (np.ones(13), SIGNAL, [r"\(13,\)", r"\(12, 1\)"]),
        (np.ones((12, 2)), SIGNAL, [r"\(12, 2\)", r"\(12, 1\)"]),
        (np.ones(12), SIGNAL[None, None], [r"\(1, 1, 12, 1\)", "without the batch"]),
        (np.ones((1, 2, 3, 4)), None, [r"\(1, 2, 3, 4\)"]),
    ],
)
def test_heat_refuses_shapes_that_do_not_belong_together(values, x, facts):
    with pytest.raises(ValueError, match=".*".join(facts)):
        plot.heat(values, x)


def test_colours_survive_colour_blindness_and_printing():
    colours, _ = style.signed_colours(np.array([1.0]))
    below, zero, above = (np.array(colours(place)[:3]) for place in (0.0, 0.5, 1.0))
    # linear RGB to what each kind of colour blindness sees (Viénot, Brettel and Mollon 1999: protan, deutan)
    protan = np.array([[0.1124, 0.8876, 0.0], [0.1124, 0.8876, 0.0], [0.0040, -0.0040, 1.0]])
    deutan = np.array([[0.2929, 0.7071, 0.0], [0.2929, 0.7071, 0.0], [-0.0223, 0.0223, 1.0]])
    for sight in (np.eye(3), protan, deutan):
        ends = [sight @ colour**2.2 for colour in (below, zero, above)]
        for one, other in ((0, 1), (1, 2), (0, 2)):
            assert np.abs(ends[one] - ends[other]).max() > 0.2
    grey = [float(np.dot(colours(place)[:3], [0.299, 0.587, 0.114])) for place in np.linspace(0, 1, 21)]
    assert all(np.diff(grey[:11]) > 0) and all(np.diff(grey[10:]) < 0)  # darker away from 0, on both sides
    assert grey[0] - grey[-1] > 0.25  # and the two ends differ in print


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delitem(sys.modules, "jaxconv.picture", raising=False)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        plot.heat([1.0, 2.0])
