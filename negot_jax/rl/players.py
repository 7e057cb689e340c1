"""Players: scripted policies, and language models that read and write. Shape suffixes as in `rollout`."""

from collections.abc import Callable, Sequence
import dataclasses
import functools
from typing import NamedTuple

from flax import struct
import jax
import jax.numpy as jnp

from negot_jax.game import bargaining, sellers
from negot_jax.game.buyers import Buyer
from negot_jax.game.types import BUYER, SELLER, Action, End, GameState, Stream
from negot_jax.language import constrain, render
from negot_jax.models import kv_cache, sampling, transformer
from negot_jax.models.presets import ModelConfig
from negot_jax.rl.tables import Tables

_STAGE = 320  # Columns per stage: with fewer, another compilation does not pay.
_STAGES = 3  # At most.


@struct.dataclass
class Message:
    """One message per row, in a slot of W columns.

    tokens_BxW: int32, padded on the right. lengths_B: int32, 0 for a silent row. cut_B: bool, whether the cap ended it.
    log_probs_BxW: float32, under the distribution that was sampled. choices_BxW: int32, the mask of that distribution
    (a row of `Constraint.allowed_NxV`, or `FORCED`).
    """

    tokens_BxW: jax.Array
    lengths_B: jax.Array
    cut_B: jax.Array
    log_probs_BxW: jax.Array
    choices_BxW: jax.Array


class Chunk(NamedTuple):
    """New columns of a context: tokens int32[B, C] and valid bool[B, C]."""

    tokens: jax.Array
    valid: jax.Array


class Spoken(NamedTuple):
    """Messages that came as text [B]: the actions that were read from them, and what the other side reads of them, as
    wide as its `Layout.reply` and unused where it keeps no dialogue.
    """

    action: Action
    heard: Chunk


class Player:
    """Speaks for one side. `memory` is a pytree that it carries from turn to turn, by default empty.

    role: BUYER or SELLER. keeps_dialogue: whether its seat records a `Dialogue`; if not, it neither begins nor hears.
    """

    role: int
    keeps_dialogue: bool

    def begin(self, tables: Tables, prompt: Chunk, group: int) -> object:
        """Reads the prompts [P, C]; returns the memory of P * group rows."""
        return ()

    def routes(self, memory: object) -> jax.Array | None:
        """Of a mixture of experts, those that each token passed, [B, columns, layers, k]."""

    def make_room(self, tables: Tables, memory: object, last: int) -> object:
        """Prepares the memory for the turns up to `last`, the end of a stage; see `stages`."""
        return memory

    def speak(
        self, key: jax.Array, tables: Tables, memory: object, turn: jax.Array, state: GameState
    ) -> tuple[object, Message | Action | Spoken]:
        """The messages of a turn [B], silent where the game is over; or actions [B], which `move` puts into words."""
        raise NotImplementedError

    def hear(self, tables: Tables, memory: object, turn: jax.Array, heard: Chunk) -> object:
        """Reads what precedes its message of a turn; where no episode goes on, it does nothing."""
        return memory

    def withdraw(self, tables: Tables, memory: object, turn: jax.Array, stand_in: Chunk) -> object:
        """Reads a stand-in [B, `Layout.stand_in`] in place of its message of a turn, in rows where there is one."""
        return memory


@dataclasses.dataclass(frozen=True)
class ScriptedPlayer(Player):
    """A scripted policy: act(state [B]) -> Action [B], or `Spoken`. It keeps a dialogue only to be cloned."""

    role: int
    act: Callable[[GameState], Action | Spoken]
    keeps_dialogue: bool = False

    def speak(self, key, tables, memory, turn, state):
        return memory, self.act(state)


def scripted_buyer(
    policies: Sequence[Buyer], turns: int, key: jax.Array | None = None, keeps_dialogue: bool = False
) -> ScriptedPlayer:
    """Scripted buyers: row i follows policy i modulo their number.

    Randomness is drawn per row from `key`. Without one, it and the policy depend on scenario and turn only, so the
    members of a group meet the same buyer.
    """

    def act(state: GameState):
        rows = which = jnp.arange(state.turn.size)
        if key is None:
            which = jax.vmap(jax.random.bits)(_scenario_keys(state, Stream.BUYER, jnp.int32(0)))
            # The seller uses numbers below `turns` of this stream.
            keys = _scenario_keys(state, Stream.NOISE, turns + state.turn)
        else:
            keys = jax.vmap(functools.partial(jax.random.fold_in, key))(rows * turns + state.turn)
        observation = jax.vmap(functools.partial(bargaining.observe, role=BUYER))(state)
        said = [jax.vmap(functools.partial(policy.act, turns=turns))(keys, observation) for policy in policies]
        return jax.tree.map(lambda *options: jnp.stack(options)[which % len(policies), rows], *said)

    return ScriptedPlayer(BUYER, act, keeps_dialogue)


def scripted_seller(tables: Tables, keeps_dialogue: bool = False) -> ScriptedPlayer:
    """The scripted seller of the tables; its randomness depends on scenario and turn only."""
    respond = jax.vmap(lambda state: sellers.respond(tables.script, state, tables.params))
    return ScriptedPlayer(SELLER, respond, keeps_dialogue)


def _scenario_keys(state: GameState, stream: Stream, number_B: jax.Array) -> jax.Array:
    """Keys [B] from a stream of the scenarios' keys; the members of a group share them."""
    fold = jax.vmap(lambda key, number: jax.random.fold_in(jax.random.fold_in(key, stream), number))
    return fold(state.scenario.key, jnp.broadcast_to(number_B, state.turn.shape))


def write(tables: Tables, role: int, action: Action, state: GameState, width: int) -> Chunk:
    """Puts actions into words, [B, width]; the wording depends on scenario and turn only."""
    book = tables.books[role]
    keys = _scenario_keys(state, Stream.WORDING, state.turn)
    variant = jax.vmap(lambda key: jax.random.randint(key, (), 0, 1 << 30))(keys)
    product = state.scenario.product
    said, lengths_B = jax.vmap(functools.partial(render.render, book, width=width))(
        action, tables.codes_NxC[product], tables.code_lengths_N[product], variant
    )
    return Chunk(said, jnp.arange(width) < lengths_B[:, None])


@struct.dataclass
class Memory:
    """KV cache, and the hidden states of the last column."""

    cache: kv_cache.Cache
    hidden_BxD: jax.Array


@dataclasses.dataclass(frozen=True)
class LanguageModelPlayer(Player):
    """A language model that reads the dialogue through its KV cache and samples its messages token by token.

    per_scenario: draw from (scenario, turn), as an opponent does so that a group meets the same one, not per episode.
    The cache grows from stage to stage, so that prefill and decode attend to few columns that are not filled yet.
    """

    role: int
    config: ModelConfig
    weights: transformer.Weights
    sampling: sampling.SamplingConfig
    per_scenario: bool = False
    keeps_dialogue = True

    def begin(self, tables, prompt, group):
        """Prefills each prompt once and copies the cache to every member of the group."""
        cache = kv_cache.init_cache(*prompt.tokens.shape, self.config)
        hidden, cache, _ = transformer.forward(self.config, self.weights, *prompt, cache)
        cache = kv_cache.widen(cache, prompt.tokens.shape[1], group)
        return Memory(cache, jnp.repeat(hidden[:, -1], group, axis=0))

    def routes(self, memory):
        passed = memory.cache.experts_LxBxSxk
        return None if passed is None else jnp.moveaxis(passed, 0, 2)

    def make_room(self, tables, memory, last):
        layout = tables.side(self.role).layout
        heard_next = self.role == BUYER and last + 1 < layout.turns  # The buyer hears its next turn within this one.
        columns = layout.start(last + 1) if heard_next else layout.end(last)
        return memory.replace(cache=kv_cache.widen(memory.cache, columns))

    def hear(self, tables, memory, turn, heard):
        def read(memory):
            cache = memory.cache.at(tables.side(self.role).layout.start(turn) - heard.tokens.shape[1])
            hidden, cache, _ = transformer.forward(self.config, self.weights, *heard, cache)
            return Memory(cache, hidden[:, -1])

        return jax.lax.cond(heard.valid.any(), read, lambda memory: memory, memory)

    def withdraw(self, tables, memory, turn, stand_in):
        layout, withdrawn_B = tables.side(self.role).layout, stand_in.valid.any(axis=1)
        start = layout.start(turn)

        def replace(memory):
            cache = kv_cache.forget(memory.cache, withdrawn_B, start, layout.message)
            replaced = transformer.forward(self.config, self.weights, *stand_in, cache.at(start)).cache
            return memory.replace(cache=kv_cache.choose(withdrawn_B, replaced, cache, start, layout.stand_in))

        return jax.lax.cond(withdrawn_B.any(), replace, lambda memory: memory, memory)

    def _uniforms(self, key, turn, state):
        """The two uniforms per row that draw the token of a column: column -> [2, B]."""
        if not self.per_scenario:
            return lambda column: jax.random.uniform(jax.random.fold_in(key, column), (2, state.turn.size))
        turns = state.kinds.shape[1]  # The seller uses numbers below `turns` of the stream.
        keys_B = _scenario_keys(state, Stream.SPEECH, turn if self.role == SELLER else turns + turn)
        return lambda column: jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, column), (2,)))(keys_B).T

    def speak(self, key, tables, memory, turn, state):
        """Samples until every row has ended its message or filled its slot."""
        side, B = tables.side(self.role), state.turn.size
        form, W = side.form, side.layout.message
        standing = state.offers[:, 1 - self.role]
        spellings = _spellings(tables, state.scenario.product, standing)
        talking_B = state.end == End.ONGOING
        uniforms = self._uniforms(key, turn, state)

        def sample(column, hidden_BxD, follow):
            logits = transformer.logits(self.config, self.weights, hidden_BxD)
            mask, choice = None, jnp.zeros(B, jnp.int32)
            if form is not None:
                allowed = functools.partial(constrain.allowed, form, left=W - column)
                mask, choice = jax.vmap(allowed)(follow, spellings)
                # Models of one tokenizer may be padded to different sizes; no message spells a padding.
                missing = max(logits.shape[-1] - mask.shape[-1], 0)
                mask = jnp.pad(mask, ((0, 0), (0, missing)))[:, : logits.shape[-1]]
            log_probs = sampling.log_probs(logits, self.sampling.temperature, mask)
            token = sampling.sample(uniforms(column), log_probs, self.sampling)
            if form is not None:
                follow = jax.vmap(functools.partial(constrain.advance, form))(follow, spellings, token, standing)
            return token, jnp.take_along_axis(log_probs, token[:, None], axis=1)[:, 0], choice, follow

        def step(carry):
            column, talking_B, follow, memory, message = carry
            token, log_prob, choice, follow = sample(column, memory.hidden_BxD, follow)
            ended_B = token == tables.end

            def write(whole, new):
                new = jnp.where(talking_B, new, 0).astype(whole.dtype)
                return jax.lax.dynamic_update_slice(whole, new[:, None], (0, column))

            message = Message(
                tokens_BxW=write(message.tokens_BxW, token),
                lengths_B=message.lengths_B + talking_B,
                cut_B=message.cut_B & ~ended_B,
                log_probs_BxW=write(message.log_probs_BxW, log_prob),
                choices_BxW=write(message.choices_BxW, choice),
            )
            read = (token[:, None], talking_B[:, None], memory.cache)
            hidden, cache, _ = transformer.forward(self.config, self.weights, *read)
            memory = Memory(cache, hidden[:, 0])
            return column + 1, talking_B & ~ended_B, follow, memory, message

        nothing = jnp.zeros((B, W), jnp.int32)
        message = Message(nothing, jnp.zeros(B, jnp.int32), talking_B, nothing.astype(jnp.float32), nothing)
        follow = None
        if form is not None:
            follow = jax.tree.map(lambda x: jnp.broadcast_to(x, (B,)), constrain.begin(form))
        memory = memory.replace(cache=memory.cache.at(side.layout.start(turn)))
        carry = (jnp.zeros((), jnp.int32), talking_B, follow, memory, message)
        carry = jax.lax.while_loop(lambda carry: (carry[0] < W) & carry[1].any(), step, carry)
        return carry[3], carry[4]


def stages(tables: Tables) -> list[range]:
    """Splits the turns of an episode into a few stages, the fewer, the fewer columns the models' contexts have."""
    turns, columns = tables.params.turns, sum(side.layout.columns for side in (tables.buyer, tables.seller) if side)
    size = -(-turns // min(-(-columns // _STAGE), _STAGES))
    return [range(first, min(first + size, turns)) for first in range(0, turns, size)]


def _spellings(tables: Tables, product: jax.Array, standing: jax.Array) -> constrain.Spellings:
    """What constrained decoding may have to spell out: each row's codename and the other side's offer."""
    price, price_length = jax.vmap(functools.partial(render.spell_price, tables.books[BUYER]))(jnp.maximum(standing, 0))
    codes = tables.codes_NxC[product]
    width = max(price.shape[1], codes.shape[1])
    pad = lambda x: jnp.pad(x, ((0, 0), (0, width - x.shape[1])))
    lengths_Bx2 = jnp.stack([tables.code_lengths_N[product], price_length], axis=1)
    return constrain.Spellings(jnp.stack([pad(codes), pad(price)], axis=1), lengths_Bx2)
