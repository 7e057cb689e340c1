"""Statistics: the bootstrap against a plain loop and against theory, pairing, pooling, and metrics without values."""

import jax
import numpy as np
import pytest

from negot_jax.evaluation import statistics
from negot_jax.game.types import NONE, End, Outcome


def run_of(**rewards_PxE):
    """One run whose rows have the given rewards, each episode of weight 1."""
    return {
        row: {"reward": np.stack([np.sum(r, axis=1), np.full(len(r), np.shape(r)[1])])}
        for row, r in rewards_PxE.items()
    }


def normal(seed, products=100, episodes=8, between=1.0, within=1.0, mean=0.0):
    rng = np.random.default_rng(seed)
    return mean + rng.normal(0, between, (products, 1)) + rng.normal(0, within, (products, episodes))


def test_equals_a_plain_loop_over_resamples():
    runs = [run_of(trained=normal(run), other=normal(run + 9)) for run in range(3)]
    summary = statistics.summarise(runs, resamples=50, seed=3)

    rng = np.random.default_rng(3)
    run_counts = rng.multinomial(3, [1 / 3] * 3, size=50)
    product_counts = rng.multinomial(100, [1 / 100] * 100, size=50)
    draws = []
    for b in range(50):
        total = {"trained": 0.0, "other": 0.0}
        weight = 0.0
        for k in np.repeat(range(3), run_counts[b]):
            for p in np.repeat(range(100), product_counts[b]):
                weight += runs[k]["other"]["reward"][1, p]
                for row in total:
                    total[row] += runs[k][row]["reward"][0, p]
        draws.append((total["other"] - total["trained"]) / weight)
    difference = summary.differences["other"]
    np.testing.assert_allclose([difference.low, difference.high], np.percentile(draws, [2.5, 97.5]), rtol=1e-9)
    assert difference.n == 3 * 100 * 8


def test_interval_is_as_wide_as_the_spread_of_products_demands():
    rewards = normal(0, products=400, between=1.0, within=0.5)
    reward = statistics.summarise([run_of(trained=rewards)]).metrics["trained"]["reward"]
    error = rewards.mean(axis=1).std() / np.sqrt(400)
    assert reward.value == pytest.approx(rewards.mean())
    np.testing.assert_allclose([reward.low, reward.high], rewards.mean() + error * np.array([-1.96, 1.96]), atol=0.01)
    as_if_independent = rewards.std() / np.sqrt(rewards.size)
    assert reward.high - reward.low > 1.5 * 2 * 1.96 * as_if_independent


def test_differences_are_paired_by_product():
    rewards = normal(0)
    summary = statistics.summarise([run_of(trained=rewards, worse=rewards - 0.01)])
    assert list(summary.differences) == ["worse"]
    worse = summary.differences["worse"]
    np.testing.assert_allclose([worse.value, worse.low, worse.high], -0.01)


def test_pooling_covers_the_spread_of_runs():
    products = normal(0, products=1000, between=0.1, within=0.1)
    levels = [0.0, 0.5, 1.0]
    pooled = statistics.summarise([run_of(trained=products + level) for level in levels]).metrics["trained"]["reward"]
    assert pooled.value == pytest.approx(products.mean() + 0.5)
    assert pooled.low < products.mean() + 0.02 and pooled.high > products.mean() + 0.98
    alone = statistics.summarise([run_of(trained=products + 0.5)]).metrics["trained"]["reward"]
    same = statistics.summarise([run_of(trained=products + 0.5)] * 3).metrics["trained"]["reward"]
    # Runs that do not differ add nothing, up to the noise of other draws.
    np.testing.assert_allclose([same.low, same.high], [alone.low, alone.high], atol=1e-3)


def test_a_metric_without_episodes_is_missing_and_empty_resamples_are_left_out():
    never = np.zeros((2, 50))
    once = np.zeros((2, 50))
    once[:, 7] = 3.0, 4.0
    row = run_of(trained=normal(0, products=50))["trained"] | {"never": never, "once": once}
    metrics = statistics.summarise([{"trained": row}]).metrics["trained"]
    assert metrics["never"] is None
    assert metrics["once"] == statistics.Interval(0.75, 0.75, 0.75, 4)


def test_the_seed_fixes_the_draws():
    run = run_of(trained=normal(0))
    assert statistics.summarise([run], seed=1) == statistics.summarise([run], seed=1)
    assert statistics.summarise([run], seed=1) != statistics.summarise([run], seed=2)


def test_runs_that_do_not_match_are_refused():
    run = run_of(trained=normal(0), other=normal(1))
    with pytest.raises(ValueError, match=r"'schedule' is none of the rows \['trained', 'other'\]"):
        statistics.summarise([run], reference="schedule")
    with pytest.raises(ValueError, match=r"run 1 differs at \(\('other', 'reward'\)"):
        statistics.summarise([run, run_of(trained=normal(0))])
    with pytest.raises(ValueError, match=r"run 1 differs"):
        statistics.summarise([run, run_of(trained=normal(0), other=normal(1, products=99))])


def test_totals_are_sums_within_products_and_survive_the_disk(tmp_path):
    ends = np.array([[End.DEAL, End.DEAL], [End.BUYER_QUIT, End.OVERSHOOT], [End.DEAL, End.CUT]], np.int32)
    deal = ends == End.DEAL
    zeros = np.zeros(ends.shape, np.int32)
    outcome = Outcome(
        end=ends,
        reward=np.where(deal, 0.5, np.where(ends == End.BUYER_QUIT, 0.0, -1.0)).astype(np.float32),
        deal_price=np.where(deal, 100, NONE),
        first_offer=zeros + 50,
        turns=zeros + 2,
        mutual=np.array([[True] * 2, [True] * 2, [False] * 2]),
        interventions=zeros,
        ratio=np.where(deal, 0.5, 0.0).astype(np.float32),
        other_ratio=np.where(deal, 0.5, 0.0).astype(np.float32),
        failed=(ends == End.OVERSHOOT) | (ends == End.CUT),
        first_ratio=np.full(ends.shape, 0.25, np.float32),
        high_asks=zeros,
    )
    totals = statistics.totals(outcome)
    np.testing.assert_array_equal(totals["reward"], [[1.0, -1.0, -0.5], [2, 2, 2]])
    np.testing.assert_array_equal(totals["bargained_ratio"], [[1.0, 0.0, 0.5], [2, 0, 1]])
    np.testing.assert_array_equal(totals["overshoot/mi"], [[0, 1, 0], [2, 2, 0]])

    rows = {"trained": totals, "0.4→1.0 B / tuned": jax.tree.map(lambda x: x + 1, totals)}
    statistics.save_totals(tmp_path / "totals.npz", rows)
    loaded = statistics.load_totals(tmp_path / "totals.npz")
    assert list(loaded) == list(rows)
    jax.tree.map(np.testing.assert_array_equal, loaded, rows)


def test_gap_and_headroom_against_the_best_response():
    rewards = normal(0)
    rows = {"trained": rewards, "tuned linear(0.4, 0.8)": rewards - 0.2, "best response": rewards + 0.3}
    summary = statistics.summarise([run_of(**rows)])
    gap, share = summary.gaps["trained"], summary.headroom["trained"]
    np.testing.assert_allclose([gap.value, gap.low, gap.high], 0.3, atol=1e-9)  # Paired: nothing is left to chance.
    np.testing.assert_allclose([share.value, share.low, share.high], 0.2 / 0.5, atol=1e-9)
    assert list(summary.gaps) == ["trained", "tuned linear(0.4, 0.8)"] and list(summary.headroom) == ["trained"]
    without = statistics.summarise([run_of(trained=rewards)])
    assert without.gaps == {} and without.headroom == {}
