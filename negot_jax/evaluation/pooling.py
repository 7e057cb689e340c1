"""Several runs' reports as one: one configuration trained with several seeds."""

from collections import Counter
from collections.abc import Mapping, Sequence
import dataclasses
import json
import pathlib
from typing import Any

from etils import epath

from negot_jax.evaluation import episodes, figures, statistics, tables
from negot_jax.evaluation.episodes import Row
from negot_jax.evaluation.tables import Settings, TrainedRun

_ONCE = {"run": "run_id", "seed": "seed"}  # What no two runs may share.


def pool(reports: Sequence[epath.Path], output: pathlib.Path, command: str) -> str:
    """Writes the pooled report (evaluation.json, table.md, rewards.png) to `output`; returns its tables as text.

    reports: folders of reports, each of another run. command: makes the pooled report again.

    Raises ValueError if a report is missing or damaged, two are of one run or seed, they differ in more, or there are
    episodes in `output`, whose report the pooled one would overwrite.
    """
    if (output / episodes.FILE).exists():
        raise ValueError(f"--output={output} is a report with episodes, which would be overwritten. Name a new folder.")
    totals, settings = zip(*map(_read, reports), strict=True)
    seen: dict[Any, epath.Path] = {}
    for report, own in zip(reports, settings, strict=True):
        for name, value in ((name, getattr(run, key)) for run in own.runs for name, key in _ONCE.items()):
            if (name, value) in seen:
                raise ValueError(
                    f"{report} and {seen[name, value]} are of the same {name}, {value}. Pool runs of different seeds, "
                    "each once."
                )
            seen[name, value] = report
    ours, *others = map(_compared, settings)
    for report, theirs in zip(reports[1:], others, strict=True):
        for name in sorted(ours.keys() | theirs.keys()):
            if ours.get(name) != theirs.get(name):
                raise ValueError(
                    f"{report} has {name}={theirs.get(name)!r}, {reports[0]} {ours.get(name)!r}. Pool runs that differ "
                    "in their seed alone."
                )
    runs = tuple(run for own in settings for run in own.runs)
    pooled = dataclasses.replace(settings[0], runs=runs, command=command)
    summary = statistics.summarize(totals)
    tables.save(output, summary, pooled)
    figures.reward_intervals(summary, output / "rewards.png")
    return tables.text(summary, pooled)


def _compared(settings: Settings) -> dict[str, Any]:
    """What runs to be pooled must agree in."""
    apart = ("runs", "identity", "command", "bounds")  # Bounds follow from the others, up to a machine's rounding.
    facts = {name: value for name, value in vars(settings).items() if name not in apart}
    return facts | settings.identity | {"iterations trained": [run.iterations for run in settings.runs]}


def _read(report: epath.Path) -> tuple[dict[Row, statistics.Totals], Settings]:
    """The totals of a report, made of its episodes, each of which it must hold once, and what they were measured on."""
    if not (report / episodes.FILE).exists():
        raise ValueError(f"{report} holds no {episodes.FILE}. Evaluate the run first.")
    try:
        told = json.loads((report / tables.FILE).read_text(encoding="utf-8"))["settings"]
        settings = Settings(**told | {"runs": tuple(TrainedRun(**run) for run in told["runs"])})
        if not settings.runs or not isinstance(settings.identity, Mapping):
            raise ValueError("it names no run, or not what the run learned from")
        played = episodes.read(report / episodes.FILE)
        whole, seen = settings.products * settings.episodes, {(own.row, own.product, own.episode) for own in played}
        for row, count in Counter(row for row, _, _ in seen).items():
            if count != whole:
                raise ValueError(f"it holds {count} episodes of {row.label}, not {whole}")
        if not played or len(seen) < len(played):
            raise ValueError("it holds no episode, or one twice")
        return statistics.totals(played), settings
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{report} is damaged: {error}. Evaluate the run again.") from error
