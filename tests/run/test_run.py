"""A run from Python: built, trained, continued, evaluated on other terms; and what is refused before any compute."""

import dataclasses
import json
import os
import shlex
import shutil

import jax
import numpy as np
import pytest

from negot_jax import run
from negot_jax.evaluation import episodes, paper, paper_figures
from negot_jax.run import match as matches
from negot_jax.run import reporting, reproduction, weights
from negot_jax.training.metrics import read_csv
from tests import forked, tiny_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> run.Run:
    """A run of four iterations, with its report."""
    buyer = run.build(tiny_run.overridden({"training.iterations": 4}), tmp_path_factory.mktemp("finished"))
    buyer.train()
    buyer.evaluate()
    return buyer


def leaves(buyer: run.Run) -> list[np.ndarray]:
    saved = weights.restore(buyer.parts, buyer.workdir, buyer.run_id)
    unwrap = lambda x: jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
    return [np.asarray(unwrap(leaf)) for leaf in jax.tree.leaves(saved.states[saved.latest])]


def test_more_iterations_are_bit_for_bit_those_of_one_longer_run(finished, tmp_path):
    short = {"training.iterations": 2, "training.checkpoint_every": 1, "evaluation.episodes": 1}
    run.build(tiny_run.overridden(short), tmp_path).train()
    longer = run.build(finished.config, tmp_path)
    longer.train()
    for ours, expected in zip(leaves(longer), leaves(finished), strict=True):
        np.testing.assert_array_equal(ours, expected)
    ours, expected = (read_csv(buyer.workdir / "metrics.csv") for buyer in (longer, finished))
    for name in (name for name in ours if not name.startswith("perf/")):
        np.testing.assert_array_equal(ours[name], expected[name], err_msg=name)


def test_another_run_in_the_folder_is_refused_by_field(finished):
    with pytest.raises(ValueError, match="config.learner.group: saved 2, now 4.* another --workdir"):
        run.build(tiny_run.overridden({"training.iterations": 4, "learner.group": 4}), finished.workdir)
    with pytest.raises(ValueError, match="config.seed: saved 0, now 1"):
        run.open(finished.workdir, {"seed": 1})


def test_a_run_that_has_trained_nothing_gives_way(tmp_path, capsys):
    mistaken = run.build(tiny_run.overridden({"language.vocab_size": 520}), tmp_path)
    mistaken._record_start()
    corrected = run.build(tiny_run.config(), tmp_path)
    assert "config.language.vocab_size: saved 520, now 512" in capsys.readouterr().out
    corrected._record_start()
    again = run.open(tmp_path)
    assert again.run_id == corrected.run_id != mistaken.run_id
    assert again.parts.dialect.tokenizer.vocab_size == corrected.parts.dialect.tokenizer.vocab_size
    assert len(again.saved["starts"]) == 1


@pytest.mark.slow
def test_tables_are_made_of_what_is_there_and_what_is_missing_is_played_once(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(reproduction, "PERSONAS", ("begging",))
    monkeypatch.setattr(reproduction, "UNSEEN", ("floor",))
    folder = str(finished.workdir)
    plan = reproduction.plan([folder], paper.NAMES, paper_figures.NAMES)
    report, played = reporting.Evaluation.report, []
    monkeypatch.setattr(
        reporting.Evaluation, "report", lambda self: played.append(self.parts.config.game.seller) or report(self)
    )
    told = list(reproduction.make(plan, tmp_path))
    assert sorted(played) == ["begging(tick=100)", "floor"]
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {
        *(f"{name}.{form}" for name in paper.NAMES for form in ("md", "csv", "tex")),
        *(f"{name}.{form}" for name in (*paper_figures.NAMES, "matrix") for form in ("png", "pdf")),
    }
    matrix = (tmp_path / "matrix.md").read_text()
    assert "neutral(tick=100)" in matrix and "begging" in matrix and "floor" in matrix
    assert list(reproduction.make(plan, tmp_path)) == told and len(played) == 2
    ((begging,),) = (own for (_, seller), own in plan.evaluations.items() if seller == "begging")
    (begging.folder / episodes.FILE).write_text("{")  # Damaged: it is played again.
    assert list(reproduction.make(plan, tmp_path)) == told and len(played) == 3
    _episodes_per_product(begging.folder, 9)  # Of other terms: likewise.
    assert list(reproduction.make(plan, tmp_path)) == told and len(played) == 4
    with pytest.raises(ValueError, match="is the same run as .* Name each run once"):
        reproduction.plan([folder, folder], ["main"], [])
    monkeypatch.setattr(reproduction, "UNSEEN", ("floor", "neutral"))  # The latter is its own, in cents.
    met = [seller for _, seller in reproduction.plan([folder], ["matrix"], []).evaluations]
    assert met == ["neutral(tick=100)", "begging", "floor"]


def _episodes_per_product(report, number: int) -> None:
    """What a report says that it played."""
    told = json.loads((report / "evaluation.json").read_text())
    told["settings"]["identity"]["evaluation.episodes"] = number
    (report / "evaluation.json").write_text(json.dumps(told))


def test_groups_whose_folders_have_the_same_name_are_told_apart(finished, tmp_path):
    folders = [shutil.copytree(finished.workdir, tmp_path / kind / "seed0") for kind in ("grpo", "ppo")]
    saved = json.loads((folders[1] / "manifest.json").read_text())
    saved["config"]["optimizer.learning_rate"] *= 2
    (folders[1] / "manifest.json").write_text(json.dumps(saved | {"run_id": "another"}))
    names = [group.name for group in reproduction.groups(map(str, folders))]
    assert all(str(path) in name for path, name in zip(folders, names, strict=True))


def test_seeds_are_pooled_if_they_are_trained_and_evaluated_alike(finished, tmp_path):
    other = shutil.copytree(finished.workdir, tmp_path / "other")
    folders = [str(finished.workdir), str(other)]

    def change(seed: int, **evaluation) -> None:
        saved = json.loads((finished.workdir / "manifest.json").read_text())
        saved["run_id"] = "another"
        saved["config"] |= {"seed": seed} | {f"evaluation.{name}": value for name, value in evaluation.items()}
        (other / "manifest.json").write_text(json.dumps(saved))

    change(seed=1)
    (group,) = reproduction.groups(folders)
    assert len(group.runs) == 2
    change(seed=1, tuning_draws=2)
    with pytest.raises(ValueError, match="other has evaluation.tuning_draws=2, .* Set both to the same"):
        reproduction.groups(folders)
    change(seed=1)
    shutil.rmtree(other / "checkpoints/4")
    with pytest.raises(ValueError, match="other has training.iterations=[0-3], .* 4, and their seeds are to be pooled"):
        reproduction.groups(folders)


@pytest.mark.parametrize("number", [0, 9])
def test_a_match_on_a_product_that_there_is_not_is_refused(finished, number):
    with pytest.raises(ValueError, match=f"--product={number}: there are 8 held-out products. Give one from 1 to 8"):
        matches.prepare("person", "", {}, product=number, workdir=str(finished.workdir))


def test_training_leaves_a_sample_of_its_episodes(finished):
    (path,) = (finished.workdir / "transcripts").iterdir()
    found = episodes.read(path)
    assert path.name == "000000.jsonl" and len(found) == 4
    assert {own.buyer.label for own in found} == {"after 0 iterations"} and {own.run for own in found} == {
        finished.run_id
    }
    assert all(own.messages[0].text and own.messages[0].tokens and own.title for own in found)


@pytest.mark.slow
def test_the_command_under_a_report_on_other_terms_makes_it_again(finished):
    terms = {
        "game.seller": "insulting(tick=100)",
        "catalog.prices": "dollars",
        "language.decoding": "free",
        "evaluation.episodes": 3,
        "evaluation.buyers": ("linear(start=0.3)",),
        "evaluation.sampling.temperature": 0.5,
    }
    report = run.open(finished.workdir).evaluate(terms)
    assert report.folder.parent == finished.workdir and report.folder.name != "report"
    settings = json.loads((report.folder / "evaluation.json").read_text())["settings"]
    assert {name: settings["identity"][name] for name in terms} == json.loads(json.dumps(terms))
    shutil.move(report.folder, report.folder.parent / "aside")
    _, _, module, *arguments = shlex.split(settings["command"])
    code, out, err = forked.run(module, arguments)
    assert code == 0, err
    assert str(report) in out
    again = (report.folder / "table.md").read_text()
    assert again == (report.folder.parent / "aside" / "table.md").read_text()
    shutil.rmtree(report.folder.parent / "aside")


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"language.vocab_size": 600}, "language.vocab_size .* tokenizer"),
        ({"sampling.temperature": 0.5}, "evaluation.sampling"),
        ({"model.layers": 2}, "config.model.layers .* the learner is the run's"),
        ({"seed": 3}, "config.seed .* only matters in training"),
        ({"training.iterations": 9}, "config.training.iterations .* only matters in training"),
        ({"seller.model": "own"}, "seller.checkpoint"),
        ({"game.seller": "insluting"}, "did you mean 'insulting'"),
        ({"catalog.name": "amazon"}, "catalog.name = 'amazon'"),
        ({"catalog.test": 9}, "catalog.test=9: the run holds out 8 products and was trained on the others"),
        ({"mesh.tensor": 2}, "mesh.tensor=2"),
        ({"buyer.policies": ("linear",)}, "config.buyer.policies .* the buyer is the run's"),
    ],
)
def test_terms_that_do_not_fit_are_refused_with_the_reason(finished, terms, message):
    with pytest.raises(ValueError, match=message):
        finished.prepare_evaluation(terms)


def test_a_run_that_has_not_been_trained_meets_nobody(tmp_path):
    with pytest.raises(ValueError, match="has not been trained yet"):
        run.build(tiny_run.config(), tmp_path).evaluate({"game.seller": "begging"})


def test_another_report_is_not_overwritten(finished, tmp_path):
    shutil.copytree(finished.workdir / "report", folder := tmp_path / "own")
    finished.prepare_evaluation(output=folder)
    match = matches.prepare(f"run:{finished.workdir}", finished.config.game.seller, {})
    found = episodes.read(folder / episodes.FILE)
    played = [own for own in found if own.buyer == episodes.TRAINED]
    refused = pytest.raises(ValueError, match=f"--output={folder} holds another report.* Name a new folder")
    with refused:
        match.require_own(folder)
    for other in ([dataclasses.replace(own, run="another") for own in found], played, []):
        episodes.write(folder / episodes.FILE, other)
        with refused:
            finished.prepare_evaluation(output=folder)
    episodes.write(folder / episodes.FILE, played)
    match.require_own(folder)
    (folder / episodes.FILE).unlink()  # As where reports were pooled.
    with refused:
        finished.prepare_evaluation(output=folder)


def test_a_run_is_read_where_nothing_can_be_written(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith(str(finished.workdir)))
    run.open(finished.workdir).prepare_evaluation(output=tmp_path)
    for write in (finished.prepare_evaluation, lambda: run.build(finished.config, finished.workdir)):
        with pytest.raises(ValueError, match=f"--workdir={finished.workdir}.* cannot be written to: no permission"):
            write()


def test_a_match_names_who_sells(finished):
    """So that matches against two sellers do not overwrite each other."""
    own = [matches.prepare(f"run:{finished.workdir}", "", terms) for terms in ({}, {"game.seller": "begging"})]
    assert [match.seller for match in own] == [finished.config.game.seller, "begging"]
    assert own[0]._table(4).facts["versions"].keys() == {"buyer"}  # The run has made no script.


def test_the_best_response_meets_the_seller_of_a_run_that_leaves_it_out_of_its_reports(finished):
    assert not finished.config.evaluation.best_response
    matches.prepare("best_response", "floor", {}, workdir=str(finished.workdir))


def test_without_its_curves_a_run_is_still_reported(finished, tmp_path):
    folder = shutil.copytree(finished.workdir, tmp_path / "run")
    buyer = run.open(folder)
    header = (folder / "metrics.csv").read_text().splitlines(keepends=True)[0]
    for left in (header, None):
        shutil.rmtree(folder / "report")
        (folder / "metrics.csv").unlink() if left is None else (folder / "metrics.csv").write_text(left)
        report = buyer.evaluate()
        assert "trained" in str(report) and not (report.folder / "learning_curves.png").exists()
        with pytest.raises(ValueError, match=r"has no metrics.csv.* leave phases out of --figure"):
            reproduction.plan([str(folder)], ["main"], ["phases"])
    assert reproduction.plan([str(folder)], ["main"], ["prices"]).figures == ("prices",)


def test_products_are_known_by_their_content(tmp_path):
    products = [{"title": f"lamp {i}", "price": 50 + i, "lowest_price": 20 + i, "category": "lamps"} for i in range(20)]
    here, there = tmp_path / "here.json", tmp_path / "there.json"
    here.write_text(json.dumps(products))
    config = {"catalog.name": "file", "catalog.data_dir": str(here), "training.iterations": 1}
    made = run.build(tiny_run.overridden(config), tmp_path / "run")
    made._record_start()
    (tmp_path / "run/warm_start").mkdir()  # As if it had trained.
    shutil.move(here, there)
    moved = run.open(tmp_path / "run", {"catalog.data_dir": str(there)})
    assert moved.parts.train.titles[0].startswith("lamp")
    products[3]["title"] = "another lamp"
    here.write_text(json.dumps(products))
    with pytest.raises(ValueError, match="catalog is not what the run .* --config.catalog.data_dir"):
        run.open(tmp_path / "run").prepare_evaluation()
    with pytest.raises(ValueError, match="catalog is not what the run"):
        run.build(tiny_run.overridden(config), tmp_path / "run")
    assert run.open(tmp_path / "run").prepare_evaluation({"catalog.data_dir": str(there)}).folder.name == "report"


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path} holds no run.*experiments.train"):
        run.open(tmp_path)
    with pytest.raises(ValueError, match="--workdir is empty"):
        run.open("")
