"""The report of a run: table, figures, transcripts, and the numbers for pooling several runs."""

from collections.abc import Mapping, Sequence
import os
import pathlib

import jax
import numpy as np

from negot_jax.catalog.types import Catalog
from negot_jax.evaluation import figures, statistics, tables, transcripts
from negot_jax.evaluation.rows import Row
from negot_jax.game import rewards, sellers
from negot_jax.game.types import BUYER, NONE, SELLER, Action, End, Outcome
from negot_jax.language.tokenizer import Tokenizer
from negot_jax.rl import rollout
from negot_jax.rl.tables import Side, Tables


def write(
    directory: str | os.PathLike,
    outcomes: Mapping[Row, Outcome],
    settings: tables.Settings,
    written: list[transcripts.Transcript],
    curves: Mapping[str, np.ndarray],
    levels: Sequence[Row],
    held_out: Mapping[int, Row],
) -> str:
    """Writes evaluation.json, table.md, totals.npz, rewards.png, learning_curves.png and transcripts.md.

    Args:
      outcomes: by row, `rows.TRAINED` among them; arrays [products, episodes].
      written: episodes to print.
      curves: the columns of the run's metrics.csv.
      levels: rows that the learning curves show as horizontal lines.
      held_out: rows that they show as points, by the number of iterations after which they were saved.

    Returns:
      The tables as text for a terminal.
    """
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    totals = {row: statistics.totals(outcome) for row, outcome in outcomes.items()}
    statistics.save_totals(directory / "totals.npz", totals)
    summary = statistics.summarize([totals])
    tables.save(directory, summary, settings)
    figures.reward_intervals(summary, directory / "rewards.png")
    means = {row: {name: own and own.value for name, own in of.items()} for row, of in summary.metrics.items()}
    points = {iteration: means[row] for iteration, row in held_out.items()}
    figures.learning_curves(
        curves, directory / "learning_curves.png", {row.label: means[row] for row in levels}, points
    )
    transcripts.save(directory / "transcripts.md", written)
    return tables.text(summary, settings)


def transcribe(
    name: str, count: int, trajectory: rollout.Trajectory, tables: Tables, catalog: Catalog, tokenizer: Tokenizer
) -> list[transcripts.Transcript]:
    """The first episodes of a batch, one a product, as text.

    Args:
      name: the buyer's. trajectory: its episodes. catalog: the products that `tables` was built from.
    """
    products = np.asarray(trajectory.state.scenario.product)
    rows = sorted(np.unique(products, return_index=True)[1])[:count]
    return [_transcript(name, _row(trajectory, row), tables, catalog, tokenizer) for row in rows]


def _row(trajectory: rollout.Trajectory, row: int) -> rollout.Trajectory:
    return jax.tree.map(lambda x: x[row], trajectory)


def _transcript(
    name: str, episode: rollout.Trajectory, tables: Tables, catalog: Catalog, tokenizer: Tokenizer
) -> transcripts.Transcript:
    state = episode.state
    product = int(state.scenario.product)
    kinds_Kx2, prices_Kx2, acts_Kx2 = jax.device_get((state.kinds, state.prices, state.acts))
    said = _messages(jax.device_get((episode.buyer, episode.seller)), tables, tokenizer)
    messages = [
        transcripts.Message(
            role=role,
            text=text,
            action=Action(kind=kinds_Kx2[turn, role], price=prices_Kx2[turn, role], acts=acts_Kx2[turn, role]),
            replaced=role == SELLER and episode.seller is not None and not episode.seller.sampled_BxKxW[turn].any(),
        )
        for turn, texts in enumerate(said)
        for role, text in texts.items()
        if kinds_Kx2[turn, role] != NONE
    ]
    return transcripts.Transcript(
        title=catalog.titles[product],
        buyer=name,
        price=int(catalog.price[product]),
        budget=int(catalog.budget[product]),
        cost=int(catalog.cost[product]),
        hidden=tables.script.describe(sellers.hidden_type(tables.script, state.scenario))
        if episode.seller is None
        else {},
        messages=messages,
        end=End(int(state.end)),
        deal_price=int(state.deal_price),
        reward=float(rewards.outcome(state, tables.params).reward),
    )


def _messages(
    dialogues: tuple[rollout.Dialogue, rollout.Dialogue | None], tables: Tables, tokenizer: Tokenizer
) -> list[dict[int, str]]:
    """Turn by turn, the text of both sides' messages, Thoughts included.

    Of a seller that reads no text, or whose message was withdrawn, it is what the buyer heard.
    """
    buyer, seller = dialogues
    layout, turns = tables.buyer.layout, []

    def own(side: Side, dialogue: rollout.Dialogue, turn: int) -> np.ndarray:
        slot = dialogue.tokens_BxT[side.layout.start(turn) : side.layout.end(turn)]
        return slot[dialogue.sampled_BxKxW[turn]]

    for turn in range(layout.turns):
        heard = buyer.tokens_BxT[layout.end(turn) + layout.closing + layout.withdrawn + layout.other :][: layout.reply]
        said = {BUYER: own(tables.buyer, buyer, turn), SELLER: heard[: np.argmax(heard == tables.end)]}
        if seller is not None and seller.sampled_BxKxW[turn].any():
            said[SELLER] = own(tables.seller, seller, turn)
        turns.append({role: tokenizer.decode(ids) for role, ids in said.items()})
    return turns
