"""Interval estimates of an evaluation: a bootstrap over products, and over runs where several are pooled.

Episodes of one product are alike, so the product is the unit that is drawn (Cameron, Gelbach & Miller 2008). Several
runs (seeds) are played on the same products; the two are crossed, and each resample draws runs and products
independently and weights an episode by the product of the two counts (the pigeonhole bootstrap, Owen 2007). Every
metric is a ratio sum / weight of the resampled totals. All rows use the same resamples, so differences are paired.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import os

from etils import epath
import jax
import numpy as np

from negot_jax.game import rewards
from negot_jax.game.types import Outcome

TUNED, BEST = "tuned linear", "best response"  # Rows that others are measured by; the former's name goes on.

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
    """What the tables and figures show, by row (a player's name) in the order given.

    metrics: by row, then metric; None where no episode has a value, as a bargained ratio without deals.
    differences: by row, its reward minus the reference's; the reference itself is left out.
    gaps, headroom: by row, the reward of the best response minus its own; and the share that it recovers of what the
    best response has over the tuned linear schedule, (own - tuned) / (best - tuned), None where that is nothing. Both
    are empty without a best response.
    """

    metrics: dict[str, dict[str, Interval | None]]
    differences: dict[str, Interval]
    gaps: dict[str, Interval]
    headroom: dict[str, Interval | None]
    reference: str


def totals(outcome: Outcome) -> Totals:
    """Sums the episode metrics within each product. outcome: arrays of shape [products, episodes]."""
    pairs = jax.device_get(jax.vmap(rewards.metrics)(outcome))
    return {name: np.stack(pair).astype(np.float64) for name, pair in pairs.items()}


def save_totals(path: str | os.PathLike, run: Mapping[str, Totals]) -> None:
    """Writes one run's totals by row as .npz, for pooling with other runs later."""
    metrics = list(next(iter(run.values())))
    totals_RxMx2xP = np.stack([[totals[name] for name in metrics] for totals in run.values()])
    np.savez_compressed(path, rows=list(run), metrics=metrics, totals=totals_RxMx2xP)


def load_totals(path: str | os.PathLike) -> dict[str, Totals]:
    """Reads what `save_totals` wrote."""
    with epath.Path(path).open("rb") as stream, np.load(stream) as file:
        rows, metrics, totals_RxMx2xP = file["rows"].tolist(), file["metrics"].tolist(), file["totals"]
    return {row: dict(zip(metrics, own, strict=True)) for row, own in zip(rows, totals_RxMx2xP, strict=True)}


def summarise(
    runs: Sequence[Mapping[str, Totals]], reference: str = "trained", resamples: int = 4000, seed: int = 0
) -> Summary:
    """Estimates every metric of every row, and each row's paired difference of reward to a reference row.

    Args:
      runs: one run, or several to pool; each by row, all with the same rows, metrics and products. An estimate pools
        the runs' sums and weights: with equal episodes a product, the mean over runs of their per-product means. Its
        interval covers both another draw of products and another draw of runs. With a single run it covers products
        alone.
      reference: the row that the others are compared with.
      resamples: draws of the bootstrap.
      seed: of the draws.

    Raises:
      ValueError: the reference is no row, or the runs differ in rows or in their number of products.
    """
    rows = list(runs[0])
    if reference not in rows:
        raise ValueError(f"reference {reference!r} is none of the rows {rows}")
    shapes = [{(row, name): array.shape for row in run for name, array in run[row].items()} for run in runs]
    for run, shape in enumerate(shapes):
        if shape != shapes[0]:
            odd = sorted(set(shape.items()) ^ set(shapes[0].items()))[0]
            raise ValueError(f"runs to be pooled must have equal rows and products: run {run} differs at {odd}")

    products = next(iter(shapes[0].values()))[1]
    generator = np.random.default_rng(seed)
    runs_BxK = _draw(generator, resamples, len(runs))
    products_BxP = _draw(generator, resamples, products)

    metrics, rewards_by_row = {}, {}
    for row in rows:
        names = list(runs[0][row])
        stacked_KxMx2xP = np.stack([[run[row][name] for name in names] for run in runs])
        values_M, draws_MxB = _estimate(stacked_KxMx2xP, runs_BxK, products_BxP)
        episodes_M = stacked_KxMx2xP[:, :, 1].sum(axis=(0, 2))
        metrics[row] = dict(zip(names, map(_interval, values_M, draws_MxB, episodes_M), strict=True))
        at = names.index("reward")
        rewards_by_row[row] = values_M[at], draws_MxB[at], episodes_M[at]
    against = functools.partial(_compare, rewards_by_row)
    differences = against([reference], lambda own, other: own - other)
    tuned = [row for row in rows if row.startswith(TUNED)]
    gaps = against([BEST], lambda own, best: best - own) if BEST in rows else {}
    headroom = (
        against([BEST, *tuned], lambda own, best, tuned: (own - tuned) / (best - tuned))
        if BEST in rows and tuned
        else {}
    )
    return Summary(metrics, differences, gaps, headroom, reference)


def _compare(
    rewards_by_row: Mapping[str, tuple[float, np.ndarray, float]], others: list[str], how: Callable[..., np.ndarray]
) -> dict[str, Interval]:
    """`how(own, *others)` of the rewards, resample by resample, for each row but the others."""
    references = [rewards_by_row[other][:2] for other in others]
    with np.errstate(divide="ignore", invalid="ignore"):  # Of a share of nothing.
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
    if not np.isfinite(value):
        return None
    low, high = np.nanpercentile(draws_B, (2.5, 97.5))
    if not np.isfinite([low, high]).all():
        return None
    return Interval(float(value), float(low), float(high), int(n))
