"""The report of a match: its episodes, the arena's tables of them, and what happened with servers."""

import collections
from collections.abc import Mapping, Sequence
import json
import pathlib

import tabulate

from negot_jax.evaluation import episodes as records
from negot_jax.evaluation import page, statistics, tables
from negot_jax.evaluation.episodes import Episode

SERVERS = "servers.json"


def write(
    folder: pathlib.Path,
    episodes: Sequence[Episode],
    settings: tables.Settings,
    counts: Mapping[str, Mapping[str, float]],
) -> str:
    """Writes episodes.jsonl and episodes.html; evaluation.json and table.md, if any episode is complete; and
    servers.json, if a server played.

    Args:
      counts: what happened with each served player, by side.

    Returns:
      The tables as text for a terminal.
    """
    folder.mkdir(parents=True, exist_ok=True)
    records.write(folder / records.FILE, episodes)
    (folder / page.FILE).write_text(page.html(episodes), encoding="utf-8")
    if counts:
        (folder / SERVERS).write_text(json.dumps(counts, indent=2, sort_keys=True), encoding="utf-8")
    text = _played(episodes, counts)
    if any(own.complete for own in episodes):
        buyer = episodes[0].buyer
        summary = statistics.summarize([statistics.totals(episodes)], reference=buyer)
        tables.save(folder, summary, settings)
        text = f"{tables.text(summary, settings)}\n{text}"
    return text


def _played(episodes: Sequence[Episode], counts: Mapping[str, Mapping[str, float]]) -> str:
    """How many episodes are complete, and why the others are not; and the servers' counts."""
    complete = sum(own.complete for own in episodes)
    lines = [("n complete", complete), ("n incomplete", len(episodes) - complete)]
    lines += collections.Counter(f"incomplete: {own.incomplete[:100]}" for own in episodes if own.incomplete).items()
    for side, own in counts.items():
        lines += [(f"{side}: {name}", count) for name, count in sorted(own.items()) if count]
    return tabulate.tabulate(lines, tablefmt="plain") + "\n"
