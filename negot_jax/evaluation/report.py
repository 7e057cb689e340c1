"""The report of a run: table, figures, transcripts, and the numbers for pooling several runs."""

from collections.abc import Mapping, Sequence
import dataclasses
import os
import pathlib

import jax
import numpy as np

from negot_jax.catalog.types import Catalog
from negot_jax.evaluation import figures, statistics, tables, transcripts
from negot_jax.game import rewards, sellers
from negot_jax.game.regulation import Stream
from negot_jax.game.types import BUYER, NONE, SELLER, Action, End, Outcome, Scenario
from negot_jax.language import prompts
from negot_jax.language.tokenizer import Tokenizer
from negot_jax.rl import rollout
from negot_jax.rl.environment import Environment


def write(
    directory: str | os.PathLike,
    outcomes: Mapping[str, Outcome],
    settings: tables.Settings,
    written: list[transcripts.Transcript],
    curves: Mapping[str, np.ndarray],
    levels: Sequence[str],
) -> str:
    """Writes evaluation.json, table.md, totals.npz, rewards.png, learning_curves.png and transcripts.md.

    Args:
      outcomes: by row, "trained" among them; arrays [products, episodes].
      written: episodes to print. curves: the columns of the run's metrics.csv. levels: rows that the learning curves
      show as horizontal lines.
    Returns:
      The tables as text for a terminal.
    """
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    totals = {row: statistics.totals(outcome) for row, outcome in outcomes.items()}
    statistics.save_totals(directory / "totals.npz", totals)
    summary = statistics.summarise([totals])
    tables.save(directory, summary, settings)
    figures.reward_intervals(summary, directory / "rewards.png")
    lines = {row: {name: own and own.value for name, own in summary.metrics[row].items()} for row in levels}
    figures.learning_curves(curves, directory / "learning_curves.png", lines)
    transcripts.save(directory / "transcripts.md", written)
    return tables.text(summary, settings)


def transcribe(
    name: str, count: int, trajectory: rollout.Trajectory, env: Environment, catalog: Catalog, tokenizer: Tokenizer
) -> list[transcripts.Transcript]:
    """The first episodes of a batch, one a product, as text.

    Args:
      name: the buyer's. trajectory: its episodes. catalog: the products that `env` was built from.
    """
    products = np.asarray(trajectory.state.scenario.product)
    rows = sorted(np.unique(products, return_index=True)[1])[:count]
    return [_transcript(name, _row(trajectory, row), env, catalog, tokenizer) for row in rows]


def _row(trajectory: rollout.Trajectory, row: int) -> rollout.Trajectory:
    return jax.tree.map(lambda x: x[row], trajectory)


def _transcript(
    name: str, episode: rollout.Trajectory, env: Environment, catalog: Catalog, tokenizer: Tokenizer
) -> transcripts.Transcript:
    state, layout = episode.state, env.layout
    product = int(state.scenario.product)
    kinds_Kx2, prices_Kx2, tokens_T = jax.device_get((state.kinds, state.prices, episode.tokens_BxT))
    messages = []
    for turn in range(layout.turns):
        end = layout.end(turn)
        # Padding and control tokens have no bytes, so the slots can be decoded whole; a reply follows its header.
        slots = {BUYER: tokens_T[layout.start(turn) : end], SELLER: tokens_T[end + 1 : end + 1 + layout.reply]}
        messages += [
            transcripts.Message(
                role=role,
                text=tokenizer.decode(slot),
                action=Action(kind=kinds_Kx2[turn, role], price=prices_Kx2[turn, role], acts=0),
            )
            for role, slot in slots.items()
            if kinds_Kx2[turn, role] != NONE
        ]
    return transcripts.Transcript(
        title=catalog.titles[product],
        buyer=name,
        price=int(catalog.price[product]),
        budget=int(catalog.budget[product]),
        cost=int(catalog.cost[product]),
        hidden=_hidden(env.seller, state.scenario),
        messages=messages,
        end=End(int(state.end)),
        deal_price=int(state.deal_price),
        reward=float(rewards.outcome(state).reward),
    )


def _hidden(seller: sellers.Seller, scenario: Scenario) -> dict[str, str]:
    """The seller's hidden type by name, its floor as money."""
    drawn = seller.draw_type(jax.random.fold_in(scenario.key, Stream.TYPE), scenario)
    facts = vars(drawn) if dataclasses.is_dataclass(drawn) else {"floor": drawn}
    return {name: prompts.money(fact) if name == "floor" else f"{float(fact):.3g}" for name, fact in facts.items()}
