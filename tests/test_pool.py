"""Pooling the reports of several runs."""

import numpy as np
import pytest

from experiments.pool import pool
from negot_jax.evaluation import statistics, tables
from negot_jax.game.types import End, Outcome


def _outcome(rng, mean: float) -> Outcome:
    """Twelve products, four episodes each, all of them deals."""
    ratio = rng.normal(mean, 0.05, size=(12, 4)).astype(np.float32)
    one, cents = np.ones((12, 4), np.int32), np.full((12, 4), 4000, np.int32)
    return Outcome(
        end=np.full((12, 4), End.DEAL, np.int32),
        reward=ratio,
        deal_price=cents,
        first_offer=cents,
        turns=one,
        mutual=one > 0,
        interventions=0 * one,
        ratio=ratio,
        other_ratio=1 - ratio,
        failed=one < 0,
        first_ratio=ratio,
        high_asks=0 * one,
    )


def _report(workdir, seed: int, seller: str = "neutral"):
    rng = np.random.default_rng(seed)
    outcomes = {"trained": _outcome(rng, 0.3 + seed / 10), "linear": _outcome(rng, 0.2)}
    run = {row: statistics.totals(outcome) for row, outcome in outcomes.items()}
    settings = tables.Settings("generated", 12, 4, "normalised", "constrained", seller, (seed,), "command")
    (workdir / "report").mkdir(parents=True)
    statistics.save_totals(workdir / "report" / "totals.npz", run)
    tables.save(workdir / "report", statistics.summarise([run], resamples=50), settings)
    return workdir, outcomes["trained"].reward


def test_runs_are_pooled(tmp_path):
    workdirs, rewards = zip(*(_report(tmp_path / str(seed), seed) for seed in range(3)), strict=True)
    text = pool(list(workdirs), tmp_path / "pooled")
    mean = np.mean(rewards)
    assert f"{mean:.3f}" in text
    assert "training seeds 0, 1, 2" in " ".join(text.split())
    assert (tmp_path / "pooled" / "rewards.png").stat().st_size > 0


def test_runs_of_different_games_are_refused(tmp_path):
    workdirs = [_report(tmp_path / "a", 0)[0], _report(tmp_path / "b", 1, "insulting")[0]]
    with pytest.raises(ValueError, match="seller='insulting'"):
        pool(workdirs, tmp_path / "pooled")


def test_a_run_without_a_report_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no totals.npz"):
        pool([tmp_path], tmp_path / "pooled")
