"""The regret of the table on random convolutions: the sample, the measurements and their storage, and the figures."""

import collections
import json
import math

import pytest

from jaxconv.cli.command_line import main
from jaxconv.kernels import choice
from jaxconv.kernels.table import TABLE
from jaxconv.tuning import regret, shapes
from jaxconv.tuning.convolutions import Convolution, convolutions


@pytest.fixture
def measured(monkeypatch):
    """Let every lowering take 1 ms, the table's choices 2; return the lists of what was raced."""
    raced = []

    def race(programs, seconds, drop_out):
        raced.append(list(programs))
        first, *others = programs
        return {first: 2.0, **dict.fromkeys(others, 1.0)}

    monkeypatch.setattr(regret, "race", race)
    monkeypatch.setattr(Convolution, "program", lambda *_, **__: lambda a, b: a)
    monkeypatch.setattr(Convolution, "operands", lambda _: (None, None))
    return raced


def test_a_sample_has_every_kind_and_valid_sizes():
    drawn = [shapes.draw(1, number) for number in range(300)]
    assert drawn[7] == shapes.draw(1, 7) != shapes.draw(2, 7)
    assert set(collections.Counter(shape.kind for shape in drawn)) == set(shapes.KINDS)
    for shape in drawn:
        assert shape.channels[0] % shape.groups == shape.channels[1] % shape.groups == 0
        assert (max(shape.strides) == 1) or shape.kind in ("strided", "transposed", "1x1", "depthwise", "bfloat16")
        assert math.prod(shape.kernel) == 1 or shape.kind != "1x1"
        assert (shape.dtype == "bfloat16") == (shape.kind == "bfloat16")


def test_all_maps_of_a_shape_are_measured_and_generic_loops_are_not():
    drawn = list(regret.items(1, 40))
    assert {item.convolution.name for item in drawn} == {"convolve", "transpose", "correlate"}
    for item in drawn:
        names = regret.candidates(item.convolution)
        assert names[0] == item.convolution.default("cpu")
        assert set(names) <= set(item.convolution.supported()) - {"xla"}
        assert not (set(names[1:]) & {"xla_nhwc"} and item.kind == "grouped")


def test_times_are_kept_and_measured_again_where_a_program_changed(tmp_path, measured, monkeypatch):
    file = tmp_path / "times.json"
    first = regret.measure(file, 1, 2, 0.0, math.inf)
    count = len(measured)
    assert count > 3 and regret.measure(file, 1, 2, 0.0, math.inf) == first and len(measured) == count
    entries = json.loads(file.read_text())
    key = next(iter(entries["entries"]))
    next(iter(entries["entries"][key].values()))["program"] = "another"
    file.write_text(json.dumps(entries))
    regret.measure(file, 1, 2, 0.0, math.inf)
    assert len(measured) > count
    last = first.splitlines()[-1].split()
    assert last[:2] == ["all", "all"] and last[5] == "2.00"
    assert regret.measure(file, 1, 3, 0.0, -1.0) == first  # no time is left for the third shape


def test_a_program_is_known_by_its_parts(monkeypatch):
    item = next(i for i in regret.items(1, 40) if i.kind == "dense-2d" and i.convolution.default("cpu") == "polyphase")
    before = regret.digest(item.convolution, "polyphase")
    assert before == regret.digest(item.convolution, "polyphase")
    *_, row = [row for row in TABLE if row.lowering == "xla_nhwc" and "convolve" in row.maps]
    monkeypatch.setattr(choice, "choose_row", lambda *_: row._replace(lowering="im2col"))
    assert regret.digest(item.convolution, "polyphase") != before


def test_the_figures_of_a_summary():
    one = regret.summarize([(1.0, "a")] * 19 + [(2.0, "b")])
    assert one == (20, pytest.approx(2 ** (1 / 20)), 1.0, 2.0, "b")
    entry = {"a": {"ms": 2.0}, "b": {"ms": 4.0}, "c": {"ms": None}}
    values = [regret.regret(entry, name) for name in "abcd"]
    assert values == [1.0, 2.0, regret.DROP_OUT, None]


def test_the_command_refuses_what_it_cannot_use(tmp_path, capsys):
    (tmp_path / "other.json").write_text("{}")
    assert main(["tune", "--table", str(tmp_path / "other.json")]) == 2
    assert "other.json" in capsys.readouterr().err
    assert main(["tune", "model.keras", "--table", "times.json"]) == 2
    assert main(["tune", "--table", "times.json", "--shapes", "0"]) == 2
    assert "--shapes 0" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"# a page", b"\xff\xfe\x00", b"[]", b'{"format": 0}', b""])
def test_a_file_that_has_no_times_is_refused_and_kept(tmp_path, content):
    file = tmp_path / "page.md"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"page\.md is not a file of times of lowerings; name another file$"):
        regret.Times(file)
    assert file.read_bytes() == content


def test_the_command_measures_and_reports(tmp_path, capsys, measured):
    assert main(["tune", "--table", str(tmp_path / "times.json"), "--shapes", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["map", "kind", "count", "mean", "95th", "worst", "of"]


@pytest.mark.parametrize("first", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(50, 600, 50))])
def test_the_table_chooses_a_lowering_that_supports_the_map(first):
    for number in range(first, first + 50):
        for one in convolutions(*shapes.draw(3, number).gradients()):
            assert one.default("cpu") in one.supported(), one
