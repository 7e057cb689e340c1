"""The game: one buyer, one seller, one product; alternating messages, buyer first.

Every function takes one episode and is branch-free; batch it with `jax.vmap`. Signatures follow gymnax, semantics pgx:
a finished state steps to itself with zero reward, and nothing resets automatically. Rules: the benchmark of
arXiv 2402.15813 as used by arXiv 2604.09855; docstrings name our choices where those are silent.
"""

import jax
from jax import Array
import jax.numpy as jnp

from negot_jax.game import rewards
from negot_jax.game.history import standing_offer
from negot_jax.game.regulation import fault, read, regulate
from negot_jax.game.types import (
    BUYER,
    NONE,
    SELLER,
    Action,
    End,
    GameParams,
    GameState,
    Kind,
    Observation,
    Products,
    Scenario,
)


def scenario(products: Products, index: jax.typing.ArrayLike, key: Array) -> Scenario:
    """The scenario of row `index` of `products`; the seller's randomness comes from `key` (typed, scalar)."""
    index = jnp.asarray(index, jnp.int32)
    row = jax.tree.map(lambda column: jnp.asarray(column, jnp.int32)[index], products)
    return Scenario(**vars(row), product=index, key=key)


def scenarios(products: Products, rows: jax.typing.ArrayLike, key: Array) -> Scenario:
    """A batch of scenarios, one for each of `rows`, int[S]; each seller has a key of its own."""
    rows = jnp.asarray(rows)
    return jax.vmap(scenario, (None, 0, 0))(products, rows, jax.random.split(key, rows.size))


def draw(key: Array, products: Products) -> Scenario:
    """A scenario with a uniformly drawn product."""
    key_product, key_seller = jax.random.split(key)
    return scenario(products, jax.random.randint(key_product, (), 0, products.price.shape[0]), key_seller)


def reset(key: Array, params: GameParams) -> tuple[Observation, GameState]:
    """Draws a scenario and starts it: the buyer's observation and the state."""
    return reset_to(draw(key, params.products), params)


def reset_to(scenario: Scenario, params: GameParams) -> tuple[Observation, GameState]:
    """Starts a given scenario: the same one for every member of a group, or for a replay."""
    nothing = jnp.full((params.turns, 2), NONE, jnp.int32)
    said = dict(offers=jnp.full(2, NONE, jnp.int32), kinds=nothing, prices=nothing, acts=jnp.zeros_like(nothing))
    result = dict(end=jnp.int32(End.ONGOING), deal_price=jnp.int32(NONE), interventions=jnp.int32(0))
    state = GameState(scenario, turn=jnp.int32(0), player=jnp.int32(BUYER), **said, **result)
    return observe(state, BUYER), state


def observe(state: GameState, role: jax.typing.ArrayLike) -> Observation:
    """What `role` may know: the public history and its own private number."""
    public = {name: getattr(state, name) for name in ("turn", "offers", "kinds", "prices", "acts")}
    private = jnp.where(role == BUYER, state.scenario.budget, state.scenario.cost)
    return Observation(role=jnp.asarray(role, jnp.int32), price=state.scenario.price, private=private, **public)


def step(
    key: Array, state: GameState, action: Action, params: GameParams
) -> tuple[Observation, GameState, Array, Array, dict]:
    """Plays one message of `state.player`; any int32 values of `action` are safe. `key` is unused: no rule is random.

    Checks, in order: readable, legal, within budget (or above the floor, see `regulation`). A DEAL closes at the
    standing price, and it is that price, not the written one, that budget and floor apply to. A buyer's format error or
    overshoot ends the episode; a seller's malformed message never costs the buyer anything.

    Returns:
      The next player's observation (the last speaker's after the end); the state; reward float32[2], buyer's and
      seller's, non-zero on the ending message only; done, bool; and info: "action", the `Action` as played (all
      `NONE` in a finished game), and "intervened", bool.
    """
    del key
    over = state.end != End.ONGOING
    turn, player = state.turn, state.player
    is_buyer = player == BUYER

    action, intervened = regulate(read(action), state, params)
    standing = standing_offer(state)
    malformed = fault(action, state)
    valid = malformed == End.ONGOING
    matches = valid & (action.kind == Kind.DEAL)
    action = action.replace(price=jnp.where(matches, standing, action.price))
    if params.regulation == "end":
        valid &= ~intervened
    overshoots = valid & is_buyer & (action.price > state.scenario.budget)

    illegal_seller = End.SELLER_ILLEGAL if params.regulation == "end" else End.ONGOING
    end = jnp.where(action.kind == Kind.QUIT, jnp.where(is_buyer, End.BUYER_QUIT, End.SELLER_QUIT), End.ONGOING)
    end = jnp.where(matches, End.DEAL, end)
    end = jnp.where(overshoots, End.OVERSHOOT, end)
    end = jnp.where(valid, end, jnp.where(is_buyer, malformed, illegal_seller))
    last_message = ~is_buyer & (turn == params.turns - 1)
    end = jnp.where(last_message & (end == End.ONGOING), End.TURN_LIMIT, end).astype(jnp.int32)
    done = end != End.ONGOING

    counts = valid & ~over

    def offer_of(role: int) -> Array:
        offers = counts & (player == role) & (action.kind == Kind.OFFER)
        rejected = counts & (player != role) & (action.kind == Kind.REJECT)
        return jnp.where(offers, action.price, jnp.where(rejected, NONE, state.offers[role]))

    # A mask, not an indexed update: batched, that is a scatter, which accelerators run row by row.
    here_Tx2 = ~over & (jnp.arange(params.turns) == turn)[:, None] & (jnp.arange(2) == player)
    played = dict(
        # After the end, turn and player stay at the message that ended it.
        turn=jnp.where(done, turn, turn + (player == SELLER)),
        player=jnp.where(done, player, 1 - player),
        end=end,
        deal_price=jnp.where(end == End.DEAL, standing, NONE),
        interventions=state.interventions + intervened,
    )
    state = state.replace(
        offers=jnp.stack([offer_of(BUYER), offer_of(SELLER)]),
        kinds=jnp.where(here_Tx2, action.kind, state.kinds),
        prices=jnp.where(here_Tx2, action.price, state.prices),
        acts=jnp.where(here_Tx2, action.acts, state.acts),
        **{name: jnp.where(over, getattr(state, name), new) for name, new in played.items()},
    )
    reward = jnp.where(over, 0.0, rewards.rewards(state, params))
    info = {"action": jax.tree.map(lambda said: jnp.where(over, NONE, said), action), "intervened": intervened & ~over}
    return observe(state, state.player), state, reward, state.end != End.ONGOING, info
