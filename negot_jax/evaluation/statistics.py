"""Interval estimates of an evaluation: a bootstrap over products, and over runs where several are pooled.

Episodes of one product are alike, so the product is the unit that is drawn (Cameron, Gelbach & Miller 2008). Several
runs (seeds) are played on the same products; the two are crossed, and each resample draws runs and products
independently and weights an episode by the product of the two counts (the pigeonhole bootstrap, Owen 2007). Every
metric is a ratio sum / weight of the resampled totals. All rows use the same resamples, so differences are paired.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools

import jax
import numpy as np

from negot_jax.evaluation.episodes import TRAINED, Episode, Row, outcomes
from negot_jax.game import rewards
from negot_jax.game.types import BUYER

_MEANS = ("reward", "bargained_ratio", "first_offer_ratio", "turns_to_deal", "interventions", "high_asks", "arguments")

_CHI2_95 = 3.841458820694124  # The square of the normal distribution's 97.5 % quantile.

Totals = dict[str, np.ndarray]
"""float64[2, products] by metric: the sum and the weight of each product's episodes."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval. n: the episodes that the estimate is a mean over."""

    value: float
    low: float
    high: float
    n: int


@dataclasses.dataclass(frozen=True)
class Summary:
    """What the tables and figures show, by row in the order given.

    metrics: by row, then metric; None where no episode has a value, as a bargained ratio without deals.
    differences: by row, its reward minus the reference's; the reference itself is left out.
    gaps, headroom: by row, the reward of the best response minus its own; and the share that it recovers of what the
    best response earns above the tuned linear schedule (among sellers, the first scripted one), (own - tuned) / (best -
    tuned), None where that is nothing.
    Both are empty without a best response.
    """

    metrics: dict[Row, dict[str, Interval | None]]
    differences: dict[Row, Interval]
    gaps: dict[Row, Interval]
    headroom: dict[Row, Interval | None]
    reference: Row


def totals(episodes: Sequence[Episode]) -> dict[Row, Totals]:
    """Sums the metrics within each product, by row.

    Besides those of `rewards.metrics`: `false_deal`, the rate of deals below the seller's cost; and `complete`, the
    only one in which incomplete episodes count.
    """
    outcome_N = outcomes(episodes)
    each = jax.vmap(lambda own: rewards.metrics(jax.tree.map(lambda x: x[None], own)))(outcome_N)
    every_N = np.ones(len(episodes))
    sold_N = outcome_N.other_ratio if episodes[0].role == BUYER else outcome_N.ratio
    pairs = jax.device_get(each) | {"false_deal": (sold_N < 0, every_N)}
    complete_N = np.array([own.complete for own in episodes], np.float64)
    pairs = {name: complete_N * np.stack(pair) for name, pair in pairs.items()} | {"complete": (complete_N, every_N)}
    product_N = np.array([own.product for own in episodes])
    by_row: dict[Row, list[int]] = {}
    for place, own in enumerate(episodes):
        by_row.setdefault(own.row, []).append(place)
    count = lambda values, own: np.bincount(product_N[own], values[own], minlength=product_N.max() + 1)
    return {
        row: {name: np.stack([count(values, own) for values in pair]) for name, pair in pairs.items()}
        for row, own in by_row.items()
    }


def summarize(
    runs: Sequence[Mapping[Row, Totals]], reference: Row = TRAINED, resamples: int = 4000, seed: int = 0
) -> Summary:
    """Estimates every metric of every row, and each row's paired difference of reward to a reference row.

    Args:
      runs: one run, or several to pool, all with the same rows (by `Row.key`), metrics and products. An estimate pools
        the runs' sums and weights: with equal episodes a product, the mean over runs of their per-product means. Its
        interval covers both another draw of products and another draw of runs; with a single run, of products alone.
        Parameters in which the runs' rows differ are left out of the pooled row.
      resamples, seed: of the bootstrap.

    Raises ValueError if the reference is no row, or the runs differ in rows or in their number of products.
    """
    if reference not in runs[0]:
        raise ValueError(f"reference {reference.label!r} is none of the rows {[row.label for row in runs[0]]}")
    pooled = _match(runs)
    generator = np.random.default_rng(seed)
    runs_BxK = _draw(generator, resamples, len(runs))
    products_BxP = _draw(generator, resamples, next(iter(runs[0][reference].values())).shape[1])

    metrics, rewards_by_row = {}, {}
    for row, by_run in pooled.items():
        names = list(by_run[0])
        stacked_KxMx2xP = np.stack([[totals[name] for name in names] for totals in by_run])
        values_M, draws_MxB = _estimate(stacked_KxMx2xP, runs_BxK, products_BxP)
        episodes_M = stacked_KxMx2xP[:, :, 1].sum(axis=(0, 2))
        at = names.index("reward")
        weighed = np.array([name == "efficiency" for name in names])  # By gains, not episodes.
        episodes_M = np.where(weighed, episodes_M[at], episodes_M)
        products_M = (stacked_KxMx2xP[:, :, 1].sum(axis=0) > 0).sum(axis=1)
        intervals = map(_interval, values_M, draws_MxB, episodes_M)
        metrics[row] = dict(zip(names, map(_bounded, names, intervals, products_M), strict=True))
        rewards_by_row[row] = values_M[at], draws_MxB[at], episodes_M[at]
    of_kind = lambda kind: [row for row in pooled if row.kind == kind]
    against = functools.partial(_compare, rewards_by_row)
    best, tuned = of_kind("best response"), of_kind("tuned") or of_kind("scripted")[:1]
    share = lambda own, best, tuned: (own - tuned) / (best - tuned)
    return Summary(
        metrics=metrics,
        differences=against([reference], lambda own, other: own - other),
        gaps=against(best, lambda own, best: best - own) if best else {},
        headroom=against([*best, *tuned], share) if best and tuned else {},
        reference=reference,
    )


def _match(runs: Sequence[Mapping[Row, Totals]]) -> dict[Row, list[Totals]]:
    """The totals of every run by pooled row."""
    by_key = [{row.key: (row, totals) for row, totals in run.items()} for run in runs]
    shapes = [{(*row.key, name): x.shape for row, own in run.items() for name, x in own.items()} for run in runs]
    for run, shape in enumerate(shapes):
        if shape != shapes[0]:
            odd = sorted(set(shape.items()) ^ set(shapes[0].items()))[0]
            raise ValueError(f"runs to be pooled must have equal rows and products: run {run} differs at {odd}")
    pooled = {}
    for key, (row, _) in by_key[0].items():
        found = [by_run[key] for by_run in by_key]
        same = all(other == row for other, _ in found)
        pooled[row if same else dataclasses.replace(row, parameters=())] = [totals for _, totals in found]
    return pooled


def _compare(
    rewards_by_row: Mapping[Row, tuple[float, np.ndarray, float]], others: list[Row], how: Callable[..., np.ndarray]
) -> dict[Row, Interval]:
    """`how(own, *others)` of the rewards, resample by resample, for each row but the others."""
    references = [rewards_by_row[other][:2] for other in others]
    with np.errstate(divide="ignore", invalid="ignore"):  # A share of nothing.
        return {
            row: _interval(*(how(*parts) for parts in zip((value, draws_B), *references, strict=True)), n)
            for row, (value, draws_B, n) in rewards_by_row.items()
            if row not in others
        }


def _draw(generator: np.random.Generator, resamples: int, units: int) -> np.ndarray:
    """float64[resamples, units]: how often each unit is drawn in a sample of as many, with replacement."""
    return generator.multinomial(units, np.full(units, 1 / units), size=resamples).astype(np.float64)


def _estimate(stacked_KxMx2xP: np.ndarray, runs_BxK: np.ndarray, products_BxP: np.ndarray):
    """The ratio of each metric's totals, [M], and of those of each resample, [M, B]; nan where the weight is 0."""
    by_run_BxKxMx2 = np.tensordot(products_BxP, stacked_KxMx2xP, axes=(1, 3))
    sums_MxB, weights_MxB = np.einsum("bk,bkmi->imb", runs_BxK, by_run_BxKxMx2)
    totals_M, weights_M = stacked_KxMx2xP.sum(axis=(0, 3)).T
    with np.errstate(invalid="ignore"):
        return totals_M / weights_M, sums_MxB / weights_MxB


def _interval(value: float, draws_B: np.ndarray, n: float) -> Interval | None:
    """The percentile interval; resamples that hold no value (nan) are left out. None without a finite interval.

    A share of headroom has none when the headroom is zero, in all or in many resamples of few products.
    """
    found = (value, *np.nanpercentile(draws_B, (2.5, 97.5))) if np.isfinite(value) else (value,)
    return Interval(*map(float, found), int(n)) if np.isfinite(found).all() else None


def _bounded(name: str, interval: Interval | None, products: int) -> Interval | None:
    """The interval of a rate of 0 or 1, where a bootstrap has no spread: Wilson's, with the products as trials."""
    if interval is None or name.split("/")[0] in _MEANS or interval.value not in (0.0, 1.0):
        return interval
    width = _CHI2_95 / (products + _CHI2_95)
    return dataclasses.replace(interval, low=interval.value * (1 - width), high=max(interval.value, width))
