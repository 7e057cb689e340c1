"""The notebooks as files. By nbmake, `make test` also runs the quickstart, and `make slow` the others."""

import json
import re

import pytest

from tests.tiny_run import ROOT

NOTEBOOKS = sorted((ROOT / "colabs").glob("*.ipynb"))
URL = re.search(r'^URL = "(https://github.com/.*)"$', (ROOT / "setup.py").read_text(), re.MULTILINE)[1]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs_and_starts_as_promised(path):
    notebook = json.loads(path.read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    first = "".join(notebook["cells"][0]["source"])
    slug = URL.removeprefix("https://github.com/")
    assert f"https://colab.research.google.com/github/{slug}/blob/main/colabs/{path.name}" in first
    assert "**How long it takes.**" in first and "not been tried" in first
    assert f"git clone --quiet --depth=1 {URL} " in "".join(code[0]["source"])
    assert "NEGOT_SMALL" in "".join(code[1]["source"])


def test_the_readme_and_the_citation_name_the_same_repository():
    for page in ("README.md", "CITATION.cff"):
        text = (ROOT / page).read_text()
        assert set(re.findall(r"github(?:\.com)?/(\w+/negot_jax)", text)) == {URL.removeprefix("https://github.com/")}
    assert {path.stem for path in NOTEBOOKS} == set(
        re.findall(r"colabs/(\w+)\.ipynb", (ROOT / "README.md").read_text())
    )
