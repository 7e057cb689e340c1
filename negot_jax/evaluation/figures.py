"""Figures: learning curves, rewards of all players with their intervals, and values against the number of turns."""

from collections.abc import Mapping, Sequence
import os

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
import numpy as np

from negot_jax.evaluation.statistics import Summary

# Okabe and Ito's palette, told apart by color-blind readers; line styles tell the levels apart once more.
BLUE, VERMILION = "#0072B2", "#D55E00"
_LEVELS = (("#009E73", "--"), ("#CC79A7", ":"), ("#E69F00", "-."), ("#000000", (0, (5, 1, 1, 1, 1, 1))))
GRAY = "#666666"
_REWARD = "reward, surplus over |budget − cost|"

_PANELS = {
    "reward": _REWARD,
    "deal_rate": "deal rate, % of episodes",
    "bargained_ratio": "bargained ratio, share of surplus in deals",
    "first_offer_ratio": "first offer / budget",
}


def learning_curves(
    curves: Mapping[str, np.ndarray],
    path: str | os.PathLike,
    levels: Mapping[str, Mapping[str, float | None]] | None = None,
    held_out: Mapping[int, Mapping[str, float | None]] | None = None,
) -> None:
    """Draws reward, deal rate, bargained ratio and first-offer ratio against the iteration, as PNG.

    Args:
      curves: the columns of `metrics.csv`: `iteration` and the four metrics in training; nan where there is no value.
      path: the file.
      levels: horizontal lines to compare with, such as schedules' values on the training products: by name, then
        metric. At most four, lest colors repeat.
      held_out: points, such as checkpoints' held-out values: by the number of iterations trained, then metric.
    """
    levels, held_out = levels or {}, held_out or {}
    if len(levels) > len(_LEVELS):
        raise ValueError(f"at most {len(_LEVELS)} levels can be told apart, got {list(levels)}")
    figure = Figure(figsize=(10, 7.4), dpi=150, layout="constrained")
    grid = figure.subplots(2, 2, sharex=True)
    handles = {}
    for axis, (metric, label) in zip(grid.flat, _PANELS.items(), strict=True):
        _curve(axis, curves["iteration"], curves.get(metric))
        if points := [(n, own[metric]) for n, own in held_out.items() if own.get(metric) is not None]:
            style = {"color": VERMILION, "linewidth": 1.2, "markersize": 5, "label": "held-out products"}
            axis.plot(*zip(*points, strict=True), "D-", **style)
        for (name, values), (color, style) in zip(levels.items(), _LEVELS, strict=False):
            if values.get(metric) is not None:
                axis.axhline(values[metric], color=color, linestyle=style, linewidth=1.6, label=name)
        if metric == "deal_rate":
            axis.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=""))
        axis.set_ylabel(label)
        tidy(axis)
        handles.update({line.get_label(): line for line in axis.get_legend_handles_labels()[0]})
    for axis in grid[1]:
        axis.set_xlabel("iterations trained")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    # One legend for all panels, of whatever any of them shows.
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(path)


def reward_intervals(summary: Summary, path: str | os.PathLike) -> None:
    """Draws each row's mean reward with its 95 % interval, the best on top, as PNG."""
    rewards = {row: metrics["reward"] for row, metrics in summary.metrics.items()}
    rows = sorted(rewards, key=lambda row: rewards[row].value)
    figure = Figure(figsize=(8, 1.2 + 0.36 * len(rows)), dpi=150, layout="constrained")
    axis = figure.subplots()
    for y, row in enumerate(rows):
        reward = rewards[row]
        own = row == summary.reference
        axis.plot([reward.low, reward.high], [y, y], color=VERMILION if own else BLUE, linewidth=2.5)
        axis.plot(reward.value, y, "D" if own else "o", color=VERMILION if own else BLUE, markersize=7)
        axis.text(1.02, y, f"{reward.value:.3f}", transform=axis.get_yaxis_transform(), va="center")
    axis.axvline(rewards[summary.reference].value, color=VERMILION, linewidth=0.8, linestyle="--")
    axis.set_yticks(range(len(rows)), [row.label for row in rows])
    axis.set_ylim(-0.6, len(rows) - 0.4)
    axis.set_xlabel(f"mean {_REWARD} (95 % interval)")
    tidy(axis)
    figure.savefig(path)


def values_by_turns(values: Mapping[str, Sequence[tuple[float, float]]], label: str, path: str | os.PathLike) -> None:
    """Draws (value, half-width of its interval) for 1, 2, ... turns as one line per name, at most six, as PNG."""
    colors = (BLUE, VERMILION, "#009E73", "#56B4E9", "#CC79A7", "#E69F00")
    figure = Figure(figsize=(7, 4.6), dpi=150, layout="constrained")
    axis = figure.subplots()
    for (name, points), color, marker in zip(values.items(), colors, "osDP^v", strict=False):
        heights, errors = zip(*points, strict=True)
        turns = range(1, len(points) + 1)
        axis.errorbar(turns, heights, errors, label=name, color=color, marker=marker, capsize=3)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("turns")
    axis.set_ylabel(label)
    axis.legend(frameon=False)
    tidy(axis)
    figure.savefig(path)


def _curve(axis: Axes, iteration: np.ndarray, values: np.ndarray | None) -> None:
    if values is not None:
        axis.plot(
            iteration, values, color=BLUE, alpha=0.3, linewidth=1, label="training products, an iteration's batch"
        )
        axis.plot(iteration, smooth(values), color=BLUE, linewidth=2, label="training products, running mean")


def smooth(values: np.ndarray) -> np.ndarray:
    """The centered running mean over a twentieth of the curve, of the finite values alone."""
    window = np.ones(2 * (len(values) // 40) + 1)
    finite = np.isfinite(values)

    def total(x: np.ndarray) -> np.ndarray:
        return np.convolve(x, window)[len(window) // 2 :][: len(values)]

    count = total(finite.astype(float))
    return np.divide(total(np.where(finite, values, 0)), count, out=np.full(len(values), np.nan), where=count > 0)


def tidy(axis: Axes) -> None:
    axis.grid(color=GRAY, alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
