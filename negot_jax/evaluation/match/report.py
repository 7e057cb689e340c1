"""What is left of a match: its episodes, the arena's tables of them, transcripts, and what happened with servers."""

import collections
from collections.abc import Mapping, Sequence
import json
import pathlib

import jax
import numpy as np
import tabulate

from negot_jax.evaluation import episodes as records
from negot_jax.evaluation import statistics, tables
from negot_jax.evaluation.episodes import Episode

SERVERS = "servers.json"


def write(
    folder: pathlib.Path,
    episodes: Sequence[Episode],
    settings: tables.Settings,
    counts: Mapping[str, Mapping[str, float]],
) -> str:
    """Writes episodes.jsonl, and of complete episodes evaluation.json and table.md; and servers.json, if one played.

    Args:
      counts: what happened with each served player, by side.

    Returns:
      The tables as text for a terminal.
    """
    folder.mkdir(parents=True, exist_ok=True)
    records.write(folder / records.FILE, episodes)
    if counts:
        (folder / SERVERS).write_text(json.dumps(counts, indent=2, sort_keys=True), encoding="utf-8")
    text = _played(episodes, counts)
    if any(own.complete for own in episodes):
        buyer = episodes[0].buyer
        summary = statistics.summarize([{buyer: totals(episodes, settings.products)}], reference=buyer)
        tables.save(folder, summary, settings)
        text = f"{tables.text(summary, settings)}\n{text}"
    return text


def totals(episodes: Sequence[Episode], products: int) -> statistics.Totals:
    """The metrics' sums and weights by product; incomplete episodes count in neither."""
    each = jax.tree.map(lambda x: x[:, None], records.outcomes(episodes))
    complete_N = np.array([own.complete for own in episodes], np.float64)
    product_N = np.array([own.product for own in episodes])
    count = lambda values: np.bincount(product_N, complete_N * values, minlength=products)
    return {name: np.stack([count(values) for values in pair]) for name, pair in statistics.totals(each).items()}


def _played(episodes: Sequence[Episode], counts: Mapping[str, Mapping[str, float]]) -> str:
    """How many episodes are complete, and why the others are not; and the servers' counts."""
    complete = sum(own.complete for own in episodes)
    lines = [("n complete", complete), ("n incomplete", len(episodes) - complete)]
    lines += collections.Counter(f"incomplete: {own.incomplete[:100]}" for own in episodes if own.incomplete).items()
    for side, own in counts.items():
        lines += [(f"{side}: {name}", count) for name, count in sorted(own.items()) if count]
    return tabulate.tabulate(lines, tablefmt="plain") + "\n"
