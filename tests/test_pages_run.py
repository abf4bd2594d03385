"""Every code block of every page runs, or is listed here as skipped."""

import pytest

from tests.support import pages

ALL = [block for page in pages.PAGES for block in pages.blocks(page)]
SKIPPED: dict[str, int] = {}  # page -> its blocks that no test runs, each with the reason behind its ``skip:``
DRAWINGS = {"README.md": 1}  # page -> its text blocks that are shown and not checked


@pytest.mark.few(1)
@pytest.mark.parametrize("page", pages.PAGES)
def test_every_block_of_the_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pages.run_page(page)


def test_every_block_says_its_language():
    assert {block.language for block in ALL} == set(pages.LANGUAGES)
    for page in pages.PAGES:
        assert (pages.ROOT / page).read_text().count("```") == 2 * len(pages.blocks(page)), page


def test_blocks_that_do_not_run_are_counted():
    drawings = [block.page for block in ALL if block.language == "text" and block.words != "output"]
    skipped = [block.page for block in ALL if block.skipped is not None]
    assert {page: drawings.count(page) for page in drawings} == DRAWINGS
    assert {page: skipped.count(page) for page in skipped} == SKIPPED
    assert all(block.skipped for block in ALL if block.skipped is not None)


@pytest.mark.parametrize(
    ("language", "words", "text"),
    [
        ("python", "", "1 + 1  # -> 3\n"),
        ("python", "", "x = 1  # -> 1\n"),
        ("python", "", "undefined\n"),
        ("python", "skip: a reason", "not python at all\n"),
        ("sh", "", "jaxconv train configs/nosuch.toml\n"),
        ("sh", "", "jaxconv train configs/gunpoint_fcn.toml --nosuch\n"),
        ("sh", "", "jaxconv train configs/gunpoint_fcn.toml --set train.epoch=3\n"),
        ("sh", "", "jaxconv nosuch\n"),
        ("sh", "", 'pip install -e ".[nosuch]"\n'),
        ("sh", "", "cd . && pip install nosuch\n"),
        ("sh", "", "python examples/nosuch.py\n"),
        ("sh", "", "nosuch\n"),
        ("sh", "run", "jaxconv info nosuch.keras\n"),
        ("toml", "", '[train]\nloss = "nosuch"\n'),
        ("toml", "", '[data]\nsource = "npz"\nfile = "mine.npz"\n'),
        ("toml", "cases", '[[case]]\nname = "mine"\n'),
    ],
)
def test_a_wrong_block_is_noticed(language, words, text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((AssertionError, NameError, SyntaxError, ValueError)):
        pages.RUNNERS[language](pages.Block("page.md", 1, language, words, text), {})


def test_a_wrong_output_is_noticed():
    block = pages.Block("page.md", 1, "text", "output", "3 ... 4\n")
    pages.assert_printed(block, "3  and 4\n")
    with pytest.raises(AssertionError, match="3 and 5"):
        pages.assert_printed(block, "3 and 5\n")
