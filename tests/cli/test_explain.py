"""``jaxconv explain``: a picture, or one line."""

import os

import pytest

from jaxconv.cli.command_line import main


def test_a_picture_is_drawn(at_home, tmp_path, capsys):
    out = tmp_path / "picture.png"
    assert main(["explain", "runs/tiny", "x.npy", "--target", "0", "--method", "gradient", "--out", str(out)]) == 0
    assert out.read_bytes()[:4] == b"\x89PNG"
    assert str(out) in capsys.readouterr().out
    assert os.listdir(tmp_path) == ["picture.png"]


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["runs/tiny", "x.npy", "--out", "p.jpg"], ["p.jpg", ".png"]),
        (["runs/tiny", "x.npy", "--out", "p.png", "--target", "99"], ["99", "classes"]),
        (["runs/tiny", "x.npy", "--out", "p.png", "--example", "99999"], ["99999", "x.npy"]),
        (["runs/tiny", "x.npy", "--out", "p.png", "--method", "integrate"], ["integrate", "integrated"]),
        (["runs/tiny", "no.npy", "--out", "p.png"], ["no.npy"]),
        (["two.keras", "x.npy", "--out", "p.png"], ["two.keras"]),
    ],
)
def test_a_mistake_is_one_line(at_home, error_line, arguments, facts):
    error = error_line("explain", *arguments)
    for fact in facts:
        assert fact in error, error
    assert not os.path.exists("p.png")


def test_a_picture_is_overwritten_only_with_force(at_home, tmp_path, error_line):
    out = tmp_path / "picture.png"
    out.write_bytes(b"mine")
    assert "--force" in error_line("explain", "runs/tiny", "x.npy", "--out", str(out))
    assert out.read_bytes() == b"mine"
