"""Statistics: the bootstrap against a plain loop and against theory, pairing, pooling, and metrics without values."""

import dataclasses

import numpy as np
import pytest

from negot_jax.evaluation import episodes, statistics
from negot_jax.evaluation.episodes import BEST_RESPONSE, TRAINED, Row
from negot_jax.game.types import End
from tests.evaluation import made

OTHER = Row("scripted", "other")
LOW, HIGH = (Row("tuned", "tuned linear", (("start", 0.4), ("end", end))) for end in (0.8, 0.9))


def run_of(rewards_PxE, **others):
    """One run whose rows have the given rewards, each episode of weight 1: the trained buyer's, and scripted ones."""
    given = {TRAINED: rewards_PxE} | {Row("scripted", name): rewards for name, rewards in others.items()}
    return {row: totals_of(rewards) for row, rewards in given.items()}


def totals_of(rewards_PxE):
    return {"reward": np.stack([np.sum(rewards_PxE, axis=1), np.full(len(rewards_PxE), rewards_PxE.shape[1])])}


def normal(seed, products=100, episodes=8, between=1.0, within=1.0, mean=0.0):
    rng = np.random.default_rng(seed)
    return mean + rng.normal(0, between, (products, 1)) + rng.normal(0, within, (products, episodes))


def test_equals_a_plain_loop_over_resamples():
    runs = [run_of(normal(run), other=normal(run + 9)) for run in range(3)]
    summary = statistics.summarize(runs, resamples=50, seed=3)

    rng = np.random.default_rng(3)
    run_counts = rng.multinomial(3, [1 / 3] * 3, size=50)
    product_counts = rng.multinomial(100, [1 / 100] * 100, size=50)
    draws = []
    for b in range(50):
        total = {TRAINED: 0.0, OTHER: 0.0}
        weight = 0.0
        for k in np.repeat(range(3), run_counts[b]):
            for p in np.repeat(range(100), product_counts[b]):
                weight += runs[k][OTHER]["reward"][1, p]
                for row in total:
                    total[row] += runs[k][row]["reward"][0, p]
        draws.append((total[OTHER] - total[TRAINED]) / weight)
    difference = summary.differences[OTHER]
    np.testing.assert_allclose([difference.low, difference.high], np.percentile(draws, [2.5, 97.5]), rtol=1e-9)
    assert difference.n == 3 * 100 * 8


def test_interval_is_as_wide_as_the_spread_of_products_demands():
    rewards = normal(0, products=400, between=1.0, within=0.5)
    reward = statistics.summarize([run_of(rewards)]).metrics[TRAINED]["reward"]
    error = rewards.mean(axis=1).std() / np.sqrt(400)
    assert reward.value == pytest.approx(rewards.mean())
    np.testing.assert_allclose([reward.low, reward.high], rewards.mean() + error * np.array([-1.96, 1.96]), atol=0.01)
    as_if_independent = rewards.std() / np.sqrt(rewards.size)
    assert reward.high - reward.low > 1.5 * 2 * 1.96 * as_if_independent


def test_differences_are_paired_by_product():
    rewards = normal(0)
    summary = statistics.summarize([run_of(rewards, worse=rewards - 0.01)])
    (worse,) = summary.differences.values()
    np.testing.assert_allclose([worse.value, worse.low, worse.high], -0.01)


def test_pooling_covers_the_spread_of_runs():
    products = normal(0, products=1000, between=0.1, within=0.1)
    levels = [0.0, 0.5, 1.0]
    pooled = statistics.summarize([run_of(products + level) for level in levels]).metrics[TRAINED]["reward"]
    assert pooled.value == pytest.approx(products.mean() + 0.5)
    assert pooled.low < products.mean() + 0.02 and pooled.high > products.mean() + 0.98
    alone = statistics.summarize([run_of(products + 0.5)]).metrics[TRAINED]["reward"]
    same = statistics.summarize([run_of(products + 0.5)] * 3).metrics[TRAINED]["reward"]
    # Runs that do not differ add nothing, up to the noise of other draws.
    np.testing.assert_allclose([same.low, same.high], [alone.low, alone.high], atol=1e-3)


def test_a_metric_without_episodes_is_missing_and_empty_resamples_are_left_out():
    never = np.zeros((2, 50))
    once = np.zeros((2, 50))
    once[:, 7] = 3.0, 4.0
    row = run_of(normal(0, products=50))[TRAINED] | {"never": never, "once": once}
    metrics = statistics.summarize([{TRAINED: row}]).metrics[TRAINED]
    assert metrics["never"] is None
    assert metrics["once"] == statistics.Interval(0.75, 0.75, 0.75, 4)


def test_the_seed_fixes_the_draws():
    run = run_of(normal(0))
    assert statistics.summarize([run], seed=1) == statistics.summarize([run], seed=1)
    assert statistics.summarize([run], seed=1) != statistics.summarize([run], seed=2)


def test_runs_that_do_not_match_are_refused():
    run = run_of(normal(0), other=normal(1))
    with pytest.raises(ValueError, match=r"'schedule' is none of the rows \['trained', 'other'\]"):
        statistics.summarize([run], reference=Row("scripted", "schedule"))
    with pytest.raises(ValueError, match=r"run 1 differs at .*'other', 'reward'"):
        statistics.summarize([run, run_of(normal(0))])
    with pytest.raises(ValueError, match=r"run 1 differs"):
        statistics.summarize([run, run_of(normal(0), other=normal(1, products=99))])


def test_totals_are_sums_within_products_and_leave_out_what_is_incomplete():
    other = Row("scripted", "other")
    failed = made.episode(product=1, episode=0, end=End.CUT, deal_price=None, reward=-1.0)
    played = [*made.deals([[5000, 6500], [5000, 5000]]), dataclasses.replace(failed, incomplete="500"), failed]
    found = statistics.totals([*played, made.episode(product=2, buyer=other)])
    np.testing.assert_allclose(found[TRAINED]["reward"], [[1.5, 1.0, 0], [2, 3, 0]], rtol=1e-6)
    np.testing.assert_allclose(found[TRAINED]["bargained_ratio"], [[1.5, 2.0, 0], [2, 2, 0]], rtol=1e-6)
    np.testing.assert_array_equal(found[TRAINED]["format_error/cut"], [[0, 1, 0], [2, 3, 0]])
    np.testing.assert_array_equal(found[TRAINED]["complete"], [[2, 3, 0], [2, 4, 0]])
    np.testing.assert_array_equal(found[other]["complete"], [[0, 0, 1], [0, 0, 1]])
    np.testing.assert_array_equal(found[other]["interventions"], [[0, 0, 1], [0, 0, 1]])


def test_gap_and_headroom_against_the_best_response():
    rewards = normal(0)
    run = {TRAINED: rewards, LOW: rewards - 0.2, BEST_RESPONSE: rewards + 0.3}
    summary = statistics.summarize([{row: totals_of(own) for row, own in run.items()}])
    gap, share = summary.gaps[TRAINED], summary.headroom[TRAINED]
    np.testing.assert_allclose([gap.value, gap.low, gap.high], 0.3, atol=1e-9)  # Paired: nothing is left to chance.
    np.testing.assert_allclose([share.value, share.low, share.high], 0.2 / 0.5, atol=1e-9)
    assert list(summary.gaps) == [TRAINED, LOW] and list(summary.headroom) == [TRAINED]
    without = statistics.summarize([run_of(rewards)])
    assert without.gaps == {} and without.headroom == {}


def test_runs_pool_by_kind_and_name_whatever_numbers_were_tuned():
    def run(tuned, seed):
        return {TRAINED: totals_of(normal(seed)), tuned: totals_of(normal(seed + 9))}

    same = statistics.summarize([run(LOW, 0), run(LOW, 1)])
    other = statistics.summarize([run(LOW, 0), run(HIGH, 1)])
    assert list(same.metrics) == [TRAINED, LOW] and list(other.metrics) == [TRAINED, Row("tuned", "tuned linear")]
    assert same.metrics[LOW] == other.metrics[Row("tuned", "tuned linear")]
    assert episodes._row_from_json(LOW.to_json()) == LOW and LOW.label == "tuned linear(start=0.4, end=0.8)"


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_rate_of_none_or_all_has_a_bound_over_products(share):
    products = 128
    row = run_of(normal(0, products=products))[TRAINED]
    every = np.full(products, 8.0)
    row |= {"overshoot": np.stack([share * every, every]), "interventions": np.stack([0 * every, every])}
    metrics = statistics.summarize([{TRAINED: row}], resamples=50).metrics[TRAINED]
    rate = metrics["overshoot"]
    z2 = 1.959964**2  # Wilson's interval at 0 and 1.
    bound = z2 / (products + z2)
    assert (rate.low, rate.high) == pytest.approx((0.0, bound) if share == 0 else (1 - bound, 1.0), abs=1e-6)
    assert metrics["interventions"].high == 0.0  # A mean, not a rate.


@pytest.mark.filterwarnings("error")
def test_a_share_of_no_headroom_is_missing():
    """Of two products a quarter of the resamples draws the second one alone, where the best is no better."""
    best = np.array([[0.5], [0.3]])
    for tuned in (best, best - [[0.2], [0.0]]):
        run = {TRAINED: best - 0.1, LOW: tuned, BEST_RESPONSE: best}
        summary = statistics.summarize([{row: totals_of(own) for row, own in run.items()}])
        assert summary.headroom == {TRAINED: None} and summary.gaps[TRAINED].value == pytest.approx(0.1)
