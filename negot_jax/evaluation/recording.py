"""Turns what was played on the device into episodes: tokens into text, arrays into records."""

import collections
from collections.abc import Mapping, Sequence
import functools
from typing import Any

import jax
import numpy as np

from negot_jax.catalog.types import Catalog
from negot_jax.evaluation.episodes import Episode, Message
from negot_jax.game import rewards, sellers
from negot_jax.game.types import BUYER, NONE, SELLER, End, GameParams, GameState, Kind
from negot_jax.language import tokenizer as tokens
from negot_jax.language.tokenizer import Tokenizer
from negot_jax.rl.rollout import Trajectory
from negot_jax.rl.tables import Tables

_TEXTS = {"title": "titles", "category": "categories", "codename": "codenames"}


def record(
    trajectory: Trajectory, tables: Tables, catalog: Catalog, tokenizer: Tokenizer, common: Mapping[str, Any]
) -> list[Episode]:
    """The episodes of a batch. trajectory: as `rollout.readable` gives it, on the host. Else as for `episodes`."""
    messages = [_messages(trajectory, tables, tokenizer, row) for row in range(len(trajectory.state.end))]
    return episodes(trajectory.state, messages, [""] * len(messages), tables, catalog, common)


def episodes(
    state: GameState,
    messages: Sequence[Sequence[Message]],
    failures: Sequence[str],
    tables: Tables,
    catalog: Catalog,
    common: Mapping[str, Any],
) -> list[Episode]:
    """The episodes of these final states [B], on the host; the scenarios' keys are their data.

    messages, failures: of each episode; why it has no result, "" if it has one. catalog: the products that `tables` was
    built from. common: the fields of all these episodes alike: who played, by which rules, in which run.
    """
    scenario, seen, found = state.scenario, collections.Counter(), []
    scripted, role = tables.seller is None, SELLER if common.get("selling") else BUYER
    hidden_B, reward_B = jax.device_get(_paid(tables.script if scripted else None, state, tables.params, role))
    for row, (product, said, failed) in enumerate(zip(scenario.product.tolist(), messages, failures, strict=True)):
        found.append(
            Episode(
                product=product,
                episode=seen[product],
                **{name: getattr(catalog, column)[product] for name, column in _TEXTS.items()},
                **{name: int(getattr(scenario, name)[row]) for name in ("price", "budget", "cost", "scale")},
                hidden=tables.script.describe(jax.tree.map(lambda x, row=row: x[row], hidden_B)) if scripted else {},
                key=tuple(scenario.key[row].tolist()),
                messages=tuple(said),
                end=End.ONGOING if failed else End(int(state.end[row])),
                deal_price=price(state.deal_price[row]),
                interventions=int(state.interventions[row]),
                reward=0.0 if failed else float(reward_B[row]),
                incomplete=failed,
                **common,
            )
        )
        seen[product] += 1
    return found


@functools.partial(jax.jit, static_argnames=("seller", "role"))
def _paid(seller: sellers.Seller | None, state: GameState, params: GameParams, role: int) -> tuple[Any, jax.Array]:
    """The hidden types [B] of a scripted seller, and the rewards [B] of a side."""
    reward_B = jax.vmap(lambda own: rewards.outcome(own, params, role))(state).reward
    if seller is None:
        return None, reward_B
    keyed = state.scenario.replace(key=jax.random.wrap_key_data(state.scenario.key))
    return jax.vmap(functools.partial(sellers.hidden_type, seller))(keyed), reward_B


def price(cents: np.ndarray) -> int | None:
    """A price as a record holds it: None in place of `NONE`."""
    return None if cents == NONE else int(cents)


def _messages(trajectory: Trajectory, tables: Tables, tokenizer: Tokenizer, row: int) -> list[Message]:
    state, found = trajectory.state, []
    kinds_Kx2, prices_Kx2, acts_Kx2 = state.kinds[row], state.prices[row], state.acts[row]
    for turn, role in zip(*np.nonzero(kinds_Kx2 != NONE), strict=True):
        action = {"kind": Kind(int(kinds_Kx2[turn, role])), "price": price(prices_Kx2[turn, role])}
        said = _said(trajectory, tables, tokenizer, row, int(turn), int(role))
        found.append(Message(int(role), int(turn), **action, acts=int(acts_Kx2[turn, role]), **said))
    return found


def _said(played: Trajectory, tables: Tables, tokenizer: Tokenizer, row: int, turn: int, role: int) -> dict[str, Any]:
    """The fields about a message's words: its own tokens or, without them, what the other side read."""
    own, other = played.dialogue(role), played.dialogue(1 - role)
    told: dict[str, Any] = {}
    if own is not None:
        said_W, sampled_W = own.said_BxKxW[row, turn], own.sampled_BxKxW[row, turn]
        if sampled_W.any():
            return {"text": tokenizer.decode(said_W[sampled_W]), "tokens": int(sampled_W.sum())}
        # A regulated seller's, which does not count as said.
        withdrawn = tokenizer.decode(_until(said_W, tables.end))
        if tables.params.regulation == "end":
            return {"text": withdrawn}
        told = {"replaced": True, "withdrawn": withdrawn}
    if other is not None:
        layout = tables.side(1 - role).layout
        after = layout.start(turn + (role == SELLER)) - layout.own  # The other side's own header.
        told["text"] = tokenizer.decode(_until(other.tokens_BxT[row, after - layout.reply : after], tables.end))
    return told


def _until(tokens_W: np.ndarray, end: int) -> np.ndarray:
    """The tokens before the one that ends the message; of a message that was cut, all but the padding."""
    (ends,) = np.nonzero(tokens_W == end)
    return tokens_W[: ends[0]] if ends.size else np.trim_zeros(tokens_W - tokens.PAD, "b") + tokens.PAD
