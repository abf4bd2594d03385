"""The plot of learning curves: one panel per metric, for any table."""

import pytest
from matplotlib.image import imread

from jaxconv.app.run import draw_curves
from jaxconv.inspect.plot.curves import metric_names

ROWS = [{"epoch": i, "loss": 0.1 / i, "accuracy": 1 / 3} for i in range(1, 6)]


@pytest.mark.parametrize(
    "rows",
    [ROWS, ROWS[:1], [{"epoch": 1, "loss": 0.0}], [{**row, "val_loss": 9.0} for row in ROWS]],
    ids=["five epochs", "one epoch", "loss 0", "validation"],
)
def test_the_plot_has_a_panel_for_each_metric(tmp_path, rows):
    draw_curves(rows, tmp_path / "a.png", "name", test={"loss": 0.5}, best_epoch=1)
    picture = imread(tmp_path / "a.png")
    assert picture.shape[1] / picture.shape[0] == pytest.approx(5.2 * len(metric_names(rows)) / 3.5, rel=0.01)
    assert picture[..., :3].std() > 0.01  # not blank
