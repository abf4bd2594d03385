"""The README: its length, sections, commands, links, figures and map; and the links of the other pages."""

import re

import jaxconv
from tests.support import pages
from tests.test_architecture import FLOORS, HEIGHT

TEXT = (pages.ROOT / "README.md").read_text()
SECTIONS = [
    "Two commands",
    "One example",
    "Features",
    "The contract",
    "Where to go next",
    "Speed",
    "Map",
    "Contributing",
]


def test_the_readme_is_short():
    assert len(TEXT.splitlines()) <= 150


def test_the_sections_are_in_order():
    assert re.findall(r"^## (.*)$", TEXT, re.MULTILINE) == SECTIONS


def test_the_two_commands_are_those_that_the_script_runs_in_a_fresh_environment():
    said = [block.text.strip().split(" && ") for block in pages.blocks("README.md") if block.language == "sh"][:2]
    script = (pages.ROOT / ".ci" / "run").read_text()
    for install, command in said:
        assert install.replace("pip install", "pip install --quiet") in script
        assert re.search(rf"^{re.escape(command)}", script, re.MULTILINE)


def test_every_link_of_every_page_leads_to_a_file():
    for page in pages.PAGES:
        here = pages.ROOT / page
        for target in re.findall(r"\]\(\s*([^)\s]+)\)", here.read_text()):
            path, _, anchor = target.partition("#")
            if not path.startswith("https://"):
                file = here.parent / path if path else here
                assert file.is_file(), f"{page}: {target}"
                if anchor:
                    titles = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
                    assert anchor in {title.lower().replace(" ", "-") for title in titles}, f"{page}: {target}"


def test_the_speed_table_is_that_of_the_page_on_speed():
    [readme] = pages.tables("README.md")
    assert readme == pages.tables("examples/speed.md")[0]
    outside = "\n".join(line for line in TEXT.splitlines() if not line.startswith("|"))
    assert not re.findall(r"[\d.]+ times", outside), "figures of speed are in the table only"
    settings = re.findall(r"`(jaxconv bench --only [^`]*)`", TEXT)
    assert settings and set(settings) <= set(
        re.findall(r"`(jaxconv bench --only [^`]*)`", (pages.ROOT / "examples" / "speed.md").read_text())
    )


def test_every_page_and_example_is_in_the_index():
    index = (pages.ROOT / "examples" / "README.md").read_text()
    files = {path.name for ending in ("md", "py", "ipynb") for path in (pages.ROOT / "examples").glob(f"*.{ending}")}
    assert files - {"README.md"} == set(re.findall(r"\]\(([\w.]+)\)", index))


def test_the_map_names_every_package_on_its_floor():
    drawing = next(block.text for block in pages.blocks("README.md") if block.language == "text")
    lines = [re.findall(r"(?<!\S)(\w+)/?(?=\s|$)", re.split(r" {3,}", line)[0]) for line in drawing.splitlines()]
    places = {name: number for number, line in enumerate(lines) for name in line}
    packages = {name for name in HEIGHT if (pages.ROOT / "jaxconv" / name).is_dir()}
    assert packages <= set(places) <= set(HEIGHT)
    for name, place in places.items():
        for other, below in places.items():
            if HEIGHT[name] > HEIGHT[other] and {name, other} & {part for floor in FLOORS[3:] for part in floor}:
                assert place < below, f"{name} is above {other}"


def test_the_first_sentence_is_the_description_of_the_package():
    assert pages.PROJECT["description"] in TEXT
    assert jaxconv.__doc__.partition(": ")[2].strip(".") in TEXT
