"""The command line on products of one's own: the example that the documentation gives."""

import json

import pytest

from negot_jax import run
from tests import forked, tiny_run

EXAMPLE = tiny_run.ROOT / "docs/products.csv"
OWN = ["--config.catalog.name=file", f"--config.catalog.data_dir={EXAMPLE}"]


def test_the_example_file_makes_a_run(tmp_path, capsys):
    own = {"catalog.name": "file", "catalog.data_dir": str(EXAMPLE), "catalog.test": 2}
    made = run.build(tiny_run.overridden(own), tmp_path / "run")
    assert "10 products: 9 mutual / 1 conflicting interest; 8 train / 2 test" in capsys.readouterr().out
    assert len(made.prepare_evaluation().parts.test.titles) == 2


@pytest.mark.slow
def test_the_example_file_trains(tmp_path):
    short = ["--config.training.iterations=2", "--config.warm_start.steps=0", "--config.game.turns=1"]
    flags = [*OWN, *short, "--config.catalog.test=2"]
    code, out, err = forked.run("experiments.train", [*tiny_run.arguments(tmp_path / "run"), *flags])
    assert code == 0, err
    assert "10 products: 9 mutual / 1 conflicting interest; 8 train / 2 test" in out and "Results" in out
    assert len((tmp_path / "run/metrics.csv").read_text().splitlines()) == 3
    assert json.loads((tmp_path / "run/report/evaluation.json").read_text())["settings"]["products"] == 2


def test_budgets_that_the_report_cannot_solve_for_are_told_of_before_training(tmp_path, capsys):
    rows = [{"title": f"Lamp {i}", "price": "50", "cost": "20", "budget": str(40 + i)} for i in range(6)]
    (tmp_path / "own.json").write_text(json.dumps(rows))
    own = {"catalog.name": "file", "catalog.data_dir": str(tmp_path / "own.json"), "catalog.test": 2}
    config = tiny_run.overridden({**own, "evaluation.best_response": True})
    run.build(config, tmp_path / "run").prepare_evaluation()
    assert "no best response in the report: " in capsys.readouterr().out


def test_too_large_a_test_set_is_the_only_thing_said(tmp_path):
    arguments = [*tiny_run.arguments(tmp_path / "run"), *OWN, "--config.catalog.test=128"]
    code, out, err = forked.run("experiments.train", arguments)
    assert code == 1 and not out and not (tmp_path / "run/manifest.json").exists()
    assert err.startswith("error: catalog.test=128 of 10 products ") and err.endswith("from 1 to 9\n")
