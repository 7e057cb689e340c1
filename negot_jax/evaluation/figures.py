"""Figures: learning curves, rewards of all players with their intervals, and values against the number of turns."""

from collections.abc import Mapping, Sequence
import os
import textwrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
import numpy as np

from negot_jax.evaluation import phases
from negot_jax.evaluation.statistics import Interval, Summary

# Okabe and Ito's palette, told apart by color-blind readers; line styles tell the levels apart once more.
BLUE, VERMILION, GREEN, PINK, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
GRAY = "#666666"
_LEVELS = ((GREEN, "--"), (PINK, ":"), (ORANGE, "-."), ("#000000", (0, (5, 1, 1, 1, 1, 1))))
_WIDTH = 52  # Characters of a row's name, which may be a long spec.
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
      levels: horizontal lines, by name, then metric: at most four, lest colors repeat.
      held_out: points, such as checkpoints' held-out values: by the number of iterations trained, then metric.
    """
    levels, held_out = levels or {}, held_out or {}
    if len(levels) > len(_LEVELS):
        raise ValueError(f"at most {len(_LEVELS)} levels can be told apart, got {list(levels)}")
    figure, panels = sheet(2, 2, (10, 7.4), sharex=True)
    for axis, (metric, label) in zip(panels.flat, _PANELS.items(), strict=True):
        if (values := curves.get(metric)) is not None:
            faint = {"alpha": 0.3, "linewidth": 1, "label": "training products, an iteration's batch"}
            axis.plot(curves["iteration"], values, color=BLUE, **faint)
            mean = phases.smooth(values, len(values) // 40)
            axis.plot(curves["iteration"], mean, color=BLUE, linewidth=2, label="training products, running mean")
        if points := [(n, own[metric]) for n, own in held_out.items() if own.get(metric) is not None]:
            style = {"color": VERMILION, "linewidth": 1.2, "markersize": 5, "label": "held-out products"}
            axis.plot(*zip(*points, strict=True), "D-", **style)
        for (name, values), (color, style) in zip(levels.items(), _LEVELS, strict=False):
            if values.get(metric) is not None:
                axis.axhline(values[metric], color=color, linestyle=style, linewidth=1.6, label=name)
        if metric == "deal_rate":
            axis.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=""))
        tidy(axis, ylabel=label)
    for axis in panels[1]:
        axis.set_xlabel("iterations trained")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(figure, panels, "outside upper center", 2)
    figure.savefig(path)


def reward_intervals(summary: Summary, path: str | os.PathLike) -> None:
    """Draws each row's mean reward with its 95 % interval, the best on top, as PNG."""
    rewards = {row.label: metrics["reward"] for row, metrics in summary.metrics.items()}
    figure, panels = sheet(1, 1, (8, 1.2 + 0.36 * len(rewards)))
    intervals(panels[0, 0], rewards, summary.reference.label)
    figure.savefig(path)


def values_by_turns(values: Mapping[str, Sequence[tuple[float, float]]], label: str, path: str | os.PathLike) -> None:
    """Draws (value, half-width of its interval) for 1, 2, ... turns as one line per name, at most six, as PNG."""
    colors = (BLUE, VERMILION, GREEN, SKY, PINK, ORANGE)
    figure, ((axis,),) = sheet(1, 1, (7, 4.6))
    for (name, points), color, marker in zip(values.items(), colors, "osDP^v", strict=False):
        heights, errors = zip(*points, strict=True)
        turns = range(1, len(points) + 1)
        axis.errorbar(turns, heights, errors, label=name, color=color, marker=marker, capsize=3)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(frameon=False)
    tidy(axis, xlabel="turns", ylabel=label)
    figure.savefig(path)


def sheet(rows: int, columns: int, size: tuple[float, float], **shared: bool) -> tuple[Figure, np.ndarray]:
    """A figure of `size` inches, and its panels [rows, columns]."""
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def legend(figure: Figure, panels: np.ndarray, place: str = "outside lower center", columns: int = 4) -> None:
    """Draws one legend for all panels, of whatever any of them shows, each name once."""
    handles = {line.get_label(): line for axis in panels.flat for line in axis.get_legend_handles_labels()[0]}
    figure.legend(handles.values(), handles, loc=place, ncols=columns, frameon=False, fontsize=9)


def intervals(axis: Axes, rewards: Mapping[str, Interval], own: str) -> None:
    """Draws each name's mean reward with its 95 % interval, the best on top, `own` marked."""
    names = sorted(rewards, key=lambda name: rewards[name].value)
    for y, (name, reward) in enumerate((name, rewards[name]) for name in names):
        color = VERMILION if name == own else BLUE
        axis.plot([reward.low, reward.high], [y, y], color=color, linewidth=2.5)
        axis.plot(reward.value, y, "D" if name == own else "o", color=color, markersize=7)
        axis.text(1.02, y, f"{reward.value:.3f}", transform=axis.get_yaxis_transform(), va="center")
    axis.axvline(rewards[own].value, color=VERMILION, linewidth=0.8, linestyle="--")
    axis.set_yticks(range(len(names)), [textwrap.fill(name, _WIDTH, max_lines=3, placeholder=" …") for name in names])
    tidy(axis, ylim=(-0.6, len(rewards) - 0.4), xlabel=f"mean {_REWARD} (95 % interval)")


def tidy(axis: Axes, **properties: Any) -> None:
    """Sets the properties of a finished panel, such as its `ylabel`."""
    axis.set(**properties)
    axis.grid(color=GRAY, alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
