"""``jaxconv bench``: its results are not overwritten."""

import pytest


@pytest.mark.parametrize("name", ["bench.json", "bench.png"])
def test_existing_results_are_overwritten_only_with_force(tmp_path, error_line, name):
    (tmp_path / name).write_text("mine")
    error = error_line("bench", "conv1d", "--out", str(tmp_path))
    assert name in error and "--force" in error
    assert (tmp_path / name).read_text() == "mine"
