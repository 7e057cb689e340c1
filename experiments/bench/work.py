"""The work that `iteration` measures: every system that is compared does the same.

A Qwen3-style model of random float32 weights: 4 layers of width 128, 4 heads of size 32, 2 of keys and values, MLP 512,
vocabulary 576. 128 episodes, 16 scenarios in groups of 8. 6 turns of 24 sampled tokens, contexts of 328; no
message ends early, and no game before its last turn. Then one AdamW update over all, in micro-batches of 16.
"""

import dataclasses

import jax
import jax.numpy as jnp

from negot_jax.game.types import BUYER
from negot_jax.language.automaton import Tag
from negot_jax.models import sharding
from negot_jax.rl.tables import Side, Tables
from negot_jax.rl.train_step import Frozen, Program
from negot_jax.rl.updates import TrainState
from negot_jax.run import assembly, weights
from negot_jax.run.config import Config, override

CONTEXT = 328
CONFIG = {
    "catalog.prices": "normalized",
    "game.seller": "neutral(tick=100)",
    "language": {"vocab_size": 576, "prompts": "compact", "text_tokens": 8, "message_tokens": 24},
    "model": {"layers": 4, "width": 128, "heads": 4, "kv_heads": 2, "head_dim": 32, "mlp": 512},
    "learner": {"scenarios": 16, "group": 8, "micro_batches": 8},
}
LM_SELLER = {"seller": {"model": "own", "message_tokens": 24}}
# Under a minute a point for everything that grows; what `scaling` varies one field of.
SMALL = {
    "game.turns": 3,
    "model": {"layers": 2, "width": 64, "heads": 2, "kv_heads": 1, "head_dim": 32, "mlp": 256},
    "learner": {"scenarios": 32, "group": 8, "micro_batches": 8},
}


def build(parts: assembly.Parts) -> tuple[Program, TrainState, Tables, Frozen]:
    """The arguments of `train_step` for a run, with tables under which every episode has its full length.

    On the current mesh.
    """
    whole, seller = sharding.shard((weights.init_learner(parts), weights.init_opponent(parts, BUYER)))
    state = sharding.shard(parts.program.init_state(jax.random.fold_in(parts.key, 2), whole))
    return parts.program, state, sharding.shard(full_length(parts.train_tables)), Frozen(opponent=seller)


def full_length(tables: Tables) -> Tables:
    """Tables of a language in which no token ends a message and every message rejects."""
    steps = tables.grammar.steps_SxK
    rejecting = steps._replace(tag=jnp.full_like(steps.tag, Tag.REJECT))
    never = -1
    return tables.replace(grammar=tables.grammar.replace(steps_SxK=rejecting), buyer=_filled(tables.buyer), end=never)


def _filled(side: Side) -> Side:
    """The side with prompts of equal length, no shorter than a context of `CONTEXT` columns needs."""
    prompt = max(side.layout.prompt, side.layout.prompt + CONTEXT - side.layout.columns)
    filling = jnp.resize(side.prompts_NxL[:, 1:2], (side.prompts_NxL.shape[0], prompt))
    kept = jnp.arange(prompt) < side.prompt_lengths_N[:, None]
    rows = jnp.pad(side.prompts_NxL, ((0, 0), (0, prompt - side.layout.prompt)))
    return side.replace(
        prompts_NxL=jnp.where(kept, rows, filling),
        prompt_lengths_N=jnp.full_like(side.prompt_lengths_N, prompt),
        layout=dataclasses.replace(side.layout, prompt=prompt),
    )


def config(seller: str, small: bool = False) -> Config:
    """The configuration of the work, or of the smaller one."""
    made = override(Config(), CONFIG | (LM_SELLER if seller == "lm" else {}))
    return override(made, SMALL) if small else made
