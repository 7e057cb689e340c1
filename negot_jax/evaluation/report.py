"""The reports of a run and of a match: episodes, and the tables, figures and transcripts made from them."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
import json
import os
import pathlib

from etils import epath
import jax
import numpy as np
import tabulate

from negot_jax.evaluation import episodes as records
from negot_jax.evaluation import figures, paper_figures, statistics, tables, transcripts
from negot_jax.evaluation.episodes import TRAINED, Episode, Row
from negot_jax.evaluation.paper import Pairing
from negot_jax.game import rewards
from negot_jax.game.types import Outcome

_ON_THE_PAGE = ("start", "trained", "best response")  # What there is to read, and what it is measured by.


def write(
    directory: str | os.PathLike,
    episodes: Sequence[Episode],
    settings: tables.Settings,
    curves: Mapping[str, np.ndarray] | None,
    references: Mapping[Row, Outcome],
    held_out: Mapping[int, Row],
    transcribed: int = 8,
) -> str:
    """Writes episodes.jsonl and episodes.html, evaluation.json and table.md, the figures, and transcripts.md.

    Args:
      episodes: of every row, `TRAINED` among them.
      curves: the columns of the run's metrics.csv; None to draw none.
      references: outcomes on the training products, which the learning curves show as horizontal lines.
      held_out: rows that they show as points, by the number of iterations after which they were saved.
      transcribed: how many of the trained buyer's episodes transcripts.md shows.

    Returns the tables as text for a terminal.
    """
    directory = pathlib.Path(directory)
    _write_episodes(directory, episodes, [own for own in episodes if own.row.kind in _ON_THE_PAGE])
    summary = statistics.summarize([statistics.totals(episodes)])
    tables.save(directory, summary, settings)
    figures.reward_intervals(summary, directory / "rewards.png")
    means = {row: {name: own and own.value for name, own in of.items()} for row, of in summary.metrics.items()}
    points = {iteration: means[row] for iteration, row in held_out.items()}
    if curves is not None:
        levels = {f"{row.label}, training products": _means(outcome) for row, outcome in references.items()}
        figures.learning_curves(curves, directory / "learning_curves.png", levels, points)
    played = Pairing("", 0, settings.buyer or settings.seller, (tuple(episodes),))
    paper_figures.prices(played).savefig(directory / "prices.png")
    picked = transcripts.pick([own for own in episodes if own.row == TRAINED], transcribed)
    (directory / "transcripts.md").write_text(transcripts.markdown(picked), encoding="utf-8")
    return tables.text(summary, settings)


def require_own(folder: epath.Path, own: Callable[[Sequence[Episode]], bool]) -> None:
    """Raises ValueError if a folder holds another report, which the one to be made would overwrite.

    own: whether episodes that are there are those of an earlier report of the same.
    """
    path = folder / records.FILE
    try:
        free = own(records.read(path)) if path.exists() else not (folder / tables.FILE).exists()
    except ValueError:  # Damaged: it cannot be told whose it is.
        free = False
    if not free:
        raise ValueError(f"--output={folder} holds another report, which would be overwritten. Name a new folder.")


def write_match(
    folder: pathlib.Path,
    episodes: Sequence[Episode],
    settings: tables.Settings,
    counts: Mapping[str, Mapping[str, float]],
) -> str:
    """Writes episodes.jsonl and episodes.html; evaluation.json and table.md, if any episode is complete; and
    servers.json, if a server played. counts: what happened with each served player, by side.

    Returns the tables as text for a terminal, how many episodes are complete, why the others are not, and the counts.
    """
    _write_episodes(folder, episodes, episodes)
    for name in (tables.FILE, "table.md"):  # Of episodes that these replace.
        (folder / name).unlink(missing_ok=True)
    if counts:
        (folder / "servers.json").write_text(json.dumps(counts, indent=2, sort_keys=True), encoding="utf-8")
    complete = sum(own.complete for own in episodes)
    lines = [("n complete", complete), ("n incomplete", len(episodes) - complete)]
    lines += Counter(f"incomplete: {own.incomplete[:100]}" for own in episodes if own.incomplete).items()
    for side, own in counts.items():
        lines += [(f"{side}: {name}", count) for name, count in sorted(own.items()) if count]
    text = tabulate.tabulate(lines, tablefmt="plain") + "\n"
    if not complete:
        return text
    summary = statistics.summarize([statistics.totals(episodes)], reference=episodes[0].buyer)
    tables.save(folder, summary, settings)
    return f"{tables.text(summary, settings)}\n{text}"


def _write_episodes(folder: pathlib.Path, episodes: Sequence[Episode], on_the_page: Sequence[Episode]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    records.write(folder / records.FILE, episodes)
    (folder / "episodes.html").write_text(transcripts.page(on_the_page), encoding="utf-8")


def _means(outcome: Outcome) -> dict[str, float | None]:
    pairs = jax.device_get(rewards.metrics(outcome))
    return {name: float(total / weight) if weight else None for name, (total, weight) in pairs.items()}
