"""The command line on products of one's own: the example that the documentation gives."""

import json

from tests import forked, tiny_run

EXAMPLE = tiny_run.ROOT / "docs/products.csv"
OWN = ["--config.catalog.name=file", f"--config.catalog.data_dir={EXAMPLE}"]


def test_the_example_file_trains(tmp_path):
    flags = [*OWN, "--config.catalog.test=2", "--config.training.iterations=2"]
    code, out, err = forked.run("experiments.train", [*tiny_run.arguments(tmp_path / "run"), *flags])
    assert code == 0, err
    assert "10 products: 9 mutual / 1 conflicting interest; 8 train / 2 test" in out and "Results" in out
    assert len((tmp_path / "run/metrics.csv").read_text().splitlines()) == 3
    assert json.loads((tmp_path / "run/report/evaluation.json").read_text())["settings"]["products"] == 2


def test_too_large_a_test_set_is_the_only_thing_said(tmp_path):
    arguments = [flag for flag in tiny_run.arguments(tmp_path / "run") if "catalog.test" not in flag]
    code, out, err = forked.run("experiments.train", [*arguments, *OWN])
    assert code == 1 and not out and not (tmp_path / "run/manifest.json").exists()
    assert err.startswith("error: catalog.test=128 of 10 products ") and err.endswith("from 1 to 9\n")
