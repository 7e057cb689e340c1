"""Pooling the reports of several runs."""

from etils import epath
import numpy as np
import pytest

from negot_jax.evaluation import episodes, statistics, tables
from negot_jax.evaluation.episodes import TRAINED, Row
from negot_jax.evaluation.pooling import pool
from tests.evaluation.made import deals


def _report(workdir, seed: int, run_id: str | None = None, iterations: int = 60, bounds=None, **identity):
    """Twelve products, four episodes each, all of them deals."""
    rng = np.random.default_rng(seed)
    tuned = Row("tuned", "tuned linear", (("start", 0.4), ("end", 0.8 + seed / 100)))
    played = deals(rng.integers(5000, 6000, (12, 4)) - 300 * seed) + deals(rng.integers(5000, 6000, (12, 4)), tuned)
    trained = tables.TrainedRun(run_id or f"run {workdir.name}", seed, iterations)
    facts = ("generated", 12, 4, "normalized", "constrained", "neutral", (trained,))
    told = {"learner.group": 8, "catalog": "c0"} | identity
    settings = tables.Settings(*facts, identity=told, command="command", bounds=bounds)
    workdir.mkdir(parents=True)
    episodes.write(workdir / episodes.FILE, played)
    tables.save(workdir, statistics.summarize([statistics.totals(played)], resamples=50), settings)
    return epath.Path(workdir), [own.reward for own in played if own.buyer == TRAINED]


def test_runs_are_pooled_though_their_tuned_schedules_differ(tmp_path):
    near = lambda seed: (0.3, 0.4 + seed * 1e-7, 0.5)  # As other machines round.
    made = [_report(tmp_path / str(seed), seed, bounds=near(seed)) for seed in range(3)]
    reports, rewards = zip(*made, strict=True)
    text = pool(reports, tmp_path / "pooled", "command")
    assert f"{np.mean(rewards):.3f}" in text
    assert "training seeds 0, 1, 2" in " ".join(text.split()) and "tuned linear " in text
    assert (tmp_path / "pooled" / "rewards.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"seed": 0}, "same seed, 0"),
        ({"seed": 1, "run_id": "run a"}, "same run, run a"),
        ({"seed": 1, "learner.group": 4}, "learner.group=4, .* 8"),
        ({"seed": 1, "catalog": "c1"}, "catalog='c1', .* 'c0'"),
        ({"seed": 1, "iterations": 3}, r"iterations trained=\[3\], .* \[60\]"),
    ],
)
def test_runs_that_differ_in_more_than_the_seed_are_refused(tmp_path, other, message):
    reports = [_report(tmp_path / "a", 0)[0], _report(tmp_path / "b", **other)[0]]
    with pytest.raises(ValueError, match=message):
        pool(reports, tmp_path / "pooled", "command")
    assert not (tmp_path / "pooled").exists()


def test_a_run_without_a_report_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no episodes.jsonl"):
        pool([epath.Path(tmp_path)], tmp_path / "pooled", "command")
