"""Pictures: what is drawn is what was given, on the axes that were given, and colours that everyone can tell apart."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxconv.inspect import plot
from jaxconv.inspect.plot import style

SIGNAL, IMAGE = np.sin(np.arange(12.0))[:, None], np.arange(48.0).reshape(4, 4, 3)


def shown(figure):
    """Return the picture as an array (height, width, 3)."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3]


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


def test_without_matplotlib_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from jaxconv.inspect import plot\n"
        "try: plot.heat([1.0, 2.0])\n"
        "except ImportError as error: print(error)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pip install matplotlib" in out
