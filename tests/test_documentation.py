"""README and docs: tables equal their JSON, commands and fields exist, links lead somewhere, README's commands run."""

import pathlib
import re
import shlex

import pytest

from experiments import published
from experiments.configs import tiny
from negot_jax import config as schema
from negot_jax.run import Config
from tests import forked
from tests.tiny_run import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: pathlib.Path) -> list[list[str]]:
    """The `python -m` commands of a page's code blocks, as arguments, continued lines joined."""
    blocks = "\n".join(re.findall(r"^ *```\n(.*?)^ *```$", page.read_text(), re.MULTILINE | re.DOTALL))
    lines = [line.strip() for line in blocks.replace("\\\n", " ").splitlines()]
    return [shlex.split(re.sub(r"[\[\]]", "", line)) for line in lines if re.match(r"(\.venv/bin/)?python -m ", line)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_those_of_the_json(page):
    assert page.read_text() == published.rendered(page.read_text())
    assert not re.search(r"^\|.*\|\n[^|\n]", page.read_text(), re.MULTILINE), "no blank line after a table"


def test_every_result_is_shown_and_says_how_it_was_measured():
    shown = re.findall(r"<!-- results: (\w+) -->", "".join(page.read_text() for page in PAGES))
    assert sorted(shown) == sorted(path.stem for path in published.RESULTS.glob("*.json"))
    for name in shown:
        result = published.read(name)
        assert all(result[key] for key in ("command", "hardware", "commit", "origin")) and "seeds" in result


def test_the_figure_is_drawn_from_the_results(tmp_path):
    result = published.read("quickstart")
    published.draw(result, tmp_path / "new.svg")
    texts = [re.findall(r"<text.*?>(.*?)</text>", path.read_text()) for path in (tmp_path / "new.svg", FIGURE)]
    (trained,) = [row[1][0] for row in result["rows"] if row[0] == "trained"]
    assert texts[0] == texts[1] and f"{trained:.3f}" in texts[0]
    assert FIGURE.stat().st_size < 200_000


FIGURE = ROOT / "docs" / published.FIGURE


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_name_modules_configurations_and_fields_that_exist(page):
    for command in commands(page):
        for module in re.findall(r"(?:experiments|launch)\.[\w.]+(?= |$)", " ".join(command)):
            assert (ROOT / f"{module.replace('.', '/')}.py").exists(), command
        for argument in command:
            if override := re.match(r"--config\.([\w.]+)=", argument):
                schema.require_field(Config, override[1])
            elif file := re.match(r"--config=(experiments/configs/[\w.]+)", argument):
                assert (ROOT / file[1].split(":")[0]).exists(), command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_index_lists_every_page():
    listed = set(re.findall(r"\((\w+\.md)\)", (ROOT / "docs/index.md").read_text()))
    assert listed >= {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}


@pytest.mark.slow
def test_the_commands_of_the_readme_run(tmp_path, monkeypatch):
    """In order and as they stand, but for the size of the run and the folder that it is in."""
    page = (ROOT / "README.md").read_text()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    for _, _, module, *arguments in commands(ROOT / "README.md"):
        small = [argument.replace("quickstart.py", "tiny.py") for argument in arguments]
        code, out, err = forked.run(module, small, seconds=900)
        assert code == 0 and "Results" in out, (module, err)
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    config = tiny.get_config()  # It is made from the quickstart's.
    monkeypatch.setattr("experiments.configs.quickstart.get_config", lambda: config)
    exec(block, {})
    assert (tmp_path / "runs/short/metrics.csv").exists()
