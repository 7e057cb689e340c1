"""Playing a batch of episodes: both sides speak turn by turn, on the device, in token ids from end to end.

Rows are episodes, scenario by scenario: row p * G + g is member g of the group of scenario p.

Shape suffixes: P scenarios, G members of a group, B = P * G rows, K turns, W columns of a
buyer's message, T all columns.
"""

from collections.abc import Callable
import functools
from typing import NamedTuple, Protocol

from flax import struct
import jax
import jax.numpy as jnp

from negot_jax.game import bargaining, sellers
from negot_jax.game.regulation import Stream
from negot_jax.game.types import BUYER, SELLER, Action, End, GameState, Scenario
from negot_jax.language import constrain, grammar, render
from negot_jax.language import tokenizer as tokens
from negot_jax.models import sampling, transformer
from negot_jax.models.presets import ModelConfig
from negot_jax.rl.environment import Environment


@struct.dataclass
class Message:
    """One message a row, in a slot of W columns.

    tokens_BxW: int32, padded on the right. lengths_B: int32, 0 where the row is silent. cut_B: bool, whether the cap
    ended it. log_probs_BxW: float32, under the distribution that each token was drawn from. choices_BxW: int32, that
    distribution's mask (a row of `Constraint.allowed_NxV`, or `FORCED`).
    """

    tokens_BxW: jax.Array
    lengths_B: jax.Array
    cut_B: jax.Array
    log_probs_BxW: jax.Array
    choices_BxW: jax.Array


@struct.dataclass
class Trajectory:
    """A batch of finished episodes, in the columns of `Layout` and after them the last reply, which nobody reads.

    tokens_BxT: int32. valid_BxT: bool, False for padding and for what the buyer does not read.
    sampled_BxKxW: bool, the buyer's own tokens.
    log_probs_BxKxW, choices_BxKxW: as in `Message`. state: the final game states, [B].
    """

    tokens_BxT: jax.Array
    valid_BxT: jax.Array
    sampled_BxKxW: jax.Array
    log_probs_BxKxW: jax.Array
    choices_BxKxW: jax.Array
    state: GameState


class Chunk(NamedTuple):
    """New columns of the context for the buyer to read: tokens int32[B, C] and valid bool[B, C]."""

    tokens: jax.Array
    valid: jax.Array


class Buyer(Protocol):
    """Who speaks for the buyer. `memory`, a pytree, is whatever it keeps from one turn to the next."""

    def begin(self, env: Environment, prompt: Chunk, group: int) -> object:
        """Reads the prompts [P, C]; the memory has a row for each of the P * group episodes."""

    def speak(
        self, key: jax.Array, env: Environment, memory: object, turn: jax.Array, state: GameState
    ) -> tuple[object, Message]:
        """The messages of a turn, [B]; silent where the game is over."""

    def hear(self, env: Environment, memory: object, turn: jax.Array, reply: Chunk) -> object:
        """Reads what comes before its next message: the seller's message and its own next header."""


def sample_scenarios(key: jax.Array, env: Environment, count: int) -> Scenario:
    """`count` draws of a product and a seller, [P]."""
    return jax.vmap(functools.partial(bargaining.draw, products=env.params.products))(jax.random.split(key, count))


def rollout(key: jax.Array, env: Environment, scenarios_P: Scenario, group: int, buyer: Buyer) -> Trajectory:
    """Plays every scenario `group` times to its end.

    The members of a group meet the same seller with the same noise; they differ by the buyer's sampling alone.
    """
    layout = env.layout
    repeat = lambda x: jnp.repeat(x, group, axis=0)
    state = jax.vmap(lambda scenario: bargaining.reset_to(scenario, env.params)[1])(jax.tree.map(repeat, scenarios_P))
    B = state.turn.shape[0]

    prompt = env.prompts_NxL[scenarios_P.product]
    valid = jnp.arange(layout.prompt) < env.prompt_lengths_N[scenarios_P.product][:, None]
    prompt = _with_header(env, Chunk(prompt, valid), jnp.zeros(prompt.shape[0], jnp.int32))

    def play_turn(carry, turn):
        memory, state = carry
        memory, message = buyer.speak(jax.random.fold_in(key, turn), env, memory, turn, state)
        state = _step(env, state, read(env, message, state))
        state, reply = _seller_turn(env, state)
        return (buyer.hear(env, memory, turn, reply), state), (message, reply)

    carry = (buyer.begin(env, prompt, group), state)
    (_, state), (messages, replies) = jax.lax.scan(play_turn, carry, jnp.arange(layout.turns))

    messages = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), messages)
    spoken_BxKxW = jnp.arange(layout.message) < messages.lengths_B[..., None]
    turns = [
        jnp.concatenate([said, jnp.moveaxis(heard, 0, 1)], axis=2).reshape(B, -1)
        for said, heard in zip((messages.tokens_BxW, spoken_BxKxW), replies, strict=True)
    ]
    columns = [jnp.concatenate([repeat(first), rest], axis=1) for first, rest in zip(prompt, turns, strict=True)]
    return Trajectory(
        tokens_BxT=columns[0],
        valid_BxT=columns[1],
        sampled_BxKxW=spoken_BxKxW,
        log_probs_BxKxW=messages.log_probs_BxW,
        choices_BxKxW=messages.choices_BxW,
        state=state,
    )


def read(env: Environment, message: Message, state: GameState) -> Action:
    """The buyer's actions, [B], as the grammar reads them."""
    parse = functools.partial(grammar.parse, env.grammar, role=BUYER)
    hashes = env.code_hashes_N[state.scenario.product]
    return jax.vmap(lambda *args: parse(*args).action)(message.tokens_BxW, message.lengths_B, message.cut_B, hashes)


def _step(env: Environment, state: GameState, action: Action) -> GameState:
    # The rules draw nothing at random; `step` takes a key because every environment's does.
    unused = jax.random.key(0)
    return jax.vmap(lambda s, a: bargaining.step(unused, s, a, env.params)[1])(state, action)


def _with_header(env: Environment, chunk: Chunk, turn_B: jax.Array) -> Chunk:
    """A chunk, and the header of the buyer's message in a turn."""
    header = env.headers_KxH.at[turn_B].get(mode="clip")
    valid = jnp.ones(header.shape, bool)
    return Chunk(jnp.concatenate([chunk.tokens, header], axis=1), jnp.concatenate([chunk.valid, valid], axis=1))


def _seller_turn(env: Environment, state: GameState) -> tuple[GameState, Chunk]:
    """The seller answers: the new states, and what the buyer reads next; nothing where the game is over."""
    action = jax.vmap(lambda s: sellers.respond(env.seller, s, env.params))(state)
    stepped = _step(env, state, action)
    rows = jnp.arange(state.turn.size)
    played = action.replace(
        kind=stepped.kinds[rows, state.turn, SELLER], price=stepped.prices[rows, state.turn, SELLER]
    )
    width = env.layout.reply
    said, lengths = _render(env, env.seller_book, played, state, width)
    said = jnp.pad(said, ((0, 0), (1, 0)), constant_values=tokens.SELLER_TURN)
    reply = _with_header(env, Chunk(said, jnp.arange(width + 1) <= lengths[:, None]), state.turn + 1)
    return stepped, reply._replace(valid=reply.valid & (stepped.end == End.ONGOING)[:, None])


def _render(env: Environment, book: render.Phrasebook, action: Action, state: GameState, width: int):
    """Scripted messages [B, width]; like a seller's noise, the wording depends on the scenario and the turn alone."""
    wording = jax.vmap(lambda key, turn: jax.random.fold_in(jax.random.fold_in(key, Stream.WORDING), turn))
    variant = jax.vmap(lambda key: jax.random.randint(key, (), 0, 1 << 30))(wording(state.scenario.key, state.turn))
    product = state.scenario.product
    return jax.vmap(functools.partial(render.render, book, width=width))(
        action, env.codes_NxC[product], env.code_lengths_N[product], variant
    )


class ScriptedBuyer(NamedTuple):
    """A scripted policy that speaks in templates: act(state [B]) -> Action [B]."""

    act: Callable[[GameState], Action]

    def begin(self, env, prompt, group):
        return ()

    def speak(self, key, env, memory, turn, state):
        said, lengths = _render(env, env.buyer_book, self.act(state), state, env.layout.message)
        lengths = jnp.where(state.end == End.ONGOING, lengths, 0)
        return memory, Message(
            tokens_BxW=said,
            lengths_B=lengths,
            cut_B=jnp.zeros(lengths.shape, bool),
            log_probs_BxW=jnp.zeros(said.shape),
            choices_BxW=jnp.full(said.shape, constrain.FORCED),
        )

    def hear(self, env, memory, turn, reply):
        return memory


@struct.dataclass
class Memory:
    """A language model's: its cache, how many valid tokens each row holds, and the last column's hidden states."""

    cache: transformer.Cache
    seen_B: jax.Array
    hidden_BxD: jax.Array


class LanguageModelBuyer(NamedTuple):
    """A language model that reads the dialogue through its cache and samples its messages token by token.

    What reads the cache is compiled once a turn, so that each turn attends to the columns filled so far and no more;
    everything around it is compiled once.
    """

    config: ModelConfig
    weights: transformer.Weights
    sampling: sampling.SamplingConfig

    def begin(self, env, prompt, group):
        """Reads each prompt once and hands every member of the group a copy."""
        P, C = prompt.tokens.shape
        cache = transformer.init_cache(P, C, self.config)
        positions = jnp.cumsum(prompt.valid, axis=1) - 1
        hidden, cache = transformer.forward(self.config, self.weights, prompt.tokens, positions, prompt.valid, cache)
        memory = Memory(cache=cache, seen_B=prompt.valid.sum(axis=1), hidden_BxD=hidden[:, -1])

        def widen(whole, batch_axis):
            """A group of each row, with room for all columns, which follow the rows."""
            room = [(0, 0)] * whole.ndim
            room[batch_axis + 1] = (0, env.layout.columns - C)
            return jnp.pad(jnp.repeat(whole, group, axis=batch_axis), room)

        return Memory(
            cache=transformer.Cache(widen(cache.keys, 1), widen(cache.values, 1), widen(cache.valid_BxS, 0)),
            seen_B=jnp.repeat(memory.seen_B, group),
            hidden_BxD=jnp.repeat(memory.hidden_BxD, group, axis=0),
        )

    def hear(self, env, memory, turn, reply):
        layout = env.layout

        def read(span, memory):
            positions = memory.seen_B[:, None] + jnp.cumsum(reply.valid, axis=1) - 1
            hidden, cache = transformer.forward(
                self.config, self.weights, reply.tokens, positions, reply.valid, memory.cache, layout.end(turn), span
            )
            return Memory(cache=cache, seen_B=memory.seen_B + reply.valid.sum(axis=1), hidden_BxD=hidden[:, -1])

        reads = [functools.partial(read, layout.start(k + 1)) for k in range(layout.turns - 1)]
        return jax.lax.switch(turn, [*reads, lambda memory: memory], memory)  # Nobody speaks after the last turn.

    def speak(self, key, env, memory, turn, state):
        spans = [env.layout.end(k) for k in range(env.layout.turns)]
        turns = [functools.partial(self._decode, key, env, span, turn, state) for span in spans]
        return jax.lax.switch(turn, turns, memory)

    def _decode(self, key, env, span, turn, state, memory):
        """Samples until every row has ended its message or filled its slot."""
        W, B = env.layout.message, state.turn.size
        standing = state.offers[:, SELLER]
        spellings = _spellings(env, state.scenario.product, standing)
        talking_B = state.end == End.ONGOING

        def sample(column, hidden_BxD, follow):
            logits = transformer.logits(self.config, self.weights, hidden_BxD)
            mask, choice = None, jnp.zeros(B, jnp.int32)
            if env.form is not None:
                allowed = functools.partial(constrain.allowed, env.form, left=W - column)
                mask, choice = jax.vmap(allowed)(follow, spellings)
            log_probs = sampling.log_probs(logits, self.sampling.temperature, mask)
            token = sampling.sample(jax.random.fold_in(key, column), log_probs, self.sampling)
            if env.form is not None:
                follow = jax.vmap(functools.partial(constrain.advance, env.form))(follow, spellings, token, standing)
            return token, jnp.take_along_axis(log_probs, token[:, None], axis=1)[:, 0], choice, follow

        def step(carry):
            column, talking_B, follow, memory, message = carry
            token, log_prob, choice, follow = sample(column, memory.hidden_BxD, follow)
            ended_B = token == tokens.EOT

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
            hidden, cache = transformer.forward(
                self.config,
                self.weights,
                token[:, None],
                memory.seen_B[:, None],
                talking_B[:, None],
                memory.cache,
                env.layout.start(turn) + column,
                span,
            )
            memory = Memory(cache=cache, seen_B=memory.seen_B + talking_B, hidden_BxD=hidden[:, 0])
            return column + 1, talking_B & ~ended_B, follow, memory, message

        nothing = jnp.zeros((B, W), jnp.int32)
        message = Message(nothing, jnp.zeros(B, jnp.int32), talking_B, nothing.astype(jnp.float32), nothing)
        follow = None
        if env.form is not None:
            follow = jax.tree.map(lambda x: jnp.broadcast_to(x, (B,)), constrain.begin(env.form))
        carry = (jnp.zeros((), jnp.int32), talking_B, follow, memory, message)
        carry = jax.lax.while_loop(lambda carry: (carry[0] < W) & carry[1].any(), step, carry)
        return carry[3], carry[4]


def _spellings(env: Environment, product: jax.Array, standing: jax.Array) -> constrain.Spellings:
    """What constrained decoding may have to spell out for each row: its codename and the seller's standing offer."""
    price, price_length = jax.vmap(functools.partial(render.spell_price, env.buyer_book))(jnp.maximum(standing, 0))
    codes = env.codes_NxC[product]
    width = max(price.shape[1], codes.shape[1])
    pad = lambda x: jnp.pad(x, ((0, 0), (0, width - x.shape[1])))
    return constrain.Spellings(
        tokens_2xC=jnp.stack([pad(codes), pad(price)], axis=1),
        lengths_2=jnp.stack([env.code_lengths_N[product], price_length], axis=1),
    )
