"""Scripted sellers, whose hidden type and noise come from the scenario's key; and `Stochastic`, the main one."""

import dataclasses
from typing import Any, ClassVar

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp
from numpy.typing import ArrayLike

from negot_jax.game import concession, personas, specs
from negot_jax.game.bargaining import observe
from negot_jax.game.history import last_offer, offers_made
from negot_jax.game.money import BP, basis_points, dollars, highest_floor, part, part_up, round_up, uniform_bp
from negot_jax.game.personas import Persona
from negot_jax.game.types import (
    BUYER,
    MAX_PRICE,
    NONE,
    SELLER,
    Action,
    GameParams,
    GameState,
    Kind,
    Observation,
    Scenario,
    Stream,
)


@dataclasses.dataclass(frozen=True)
class Seller:
    """A scripted seller: subclass it as a frozen dataclass of numbers and write `act`; the rest has defaults.

    Instances are hashable and static under jit. Subclass fields can be set in a spec, such as `neutral(tick=100)`.
    persona: how it speaks; no part of its policy. monotone: whether it has no noise and, in every turn, its ask and the
    least offer it takes do not fall as its cost rises: the best response is then exact, see `solvers.best_response`.
    hears: whether the arguments in the buyer's talk change what it does.
    """

    persona: Persona = dataclasses.field(default=personas.NEUTRAL, kw_only=True, repr=False, compare=False)
    monotone: ClassVar[bool] = False
    hears: ClassVar[bool] = False

    def draw_type(self, key: Array, scenario: Scenario) -> Any:
        """Draws the hidden type once per episode: any pytree of arrays, by default an empty one."""
        del key, scenario
        return ()

    def act(self, key: Array, hidden: Any, obs: Observation, turns: int) -> Action:
        """Answers the buyer's last message. `key`: this turn's noise. `turns`: the turn limit."""
        raise NotImplementedError

    def highest_price(self, prices: ArrayLike, costs: ArrayLike) -> int:
        """The most it may say, cents, over products of these list prices and costs; it sizes the messages."""
        return highest_floor(prices, costs, 0.0)

    def describe(self, hidden: Any) -> dict[str, str]:
        """What a transcript shows of a drawn hidden type, by name; by default every leaf under its path."""
        leaves = jax.tree_util.tree_leaves_with_path(hidden)
        return {jax.tree_util.keystr(path, simple=True, separator=".") or "type": str(leaf) for path, leaf in leaves}


def hidden_type(seller: Seller, scenario: Scenario) -> Any:
    """The type that `seller` has in `scenario`."""
    return seller.draw_type(jax.random.fold_in(scenario.key, Stream.TYPE), scenario)


def respond(seller: Seller, state: GameState, params: GameParams) -> Action:
    """The seller's move in `state`; its type and noise come from the scenario's key."""
    noise = jax.random.fold_in(jax.random.fold_in(state.scenario.key, Stream.NOISE), state.turn)
    return seller.act(noise, hidden_type(seller, state.scenario), observe(state, SELLER), params.turns)


def deal_or(accepts: Array, offer: Array, ask: Array) -> Action:
    """DEAL at the other side's standing offer if `accepts`, else OFFER at `ask`."""
    kind = jnp.where(accepts, Kind.DEAL, Kind.OFFER).astype(jnp.int32)
    return Action(kind=kind, price=jnp.where(accepts, offer, ask).astype(jnp.int32), acts=jnp.int32(0))


def least(cost: Array, margin_bp: Array) -> Array:
    """ceil(cost (1 + margin)), int32 cents: the least a seller takes."""
    return jnp.minimum(cost + part_up(cost, margin_bp), MAX_PRICE)


def quote(ask: Array, floor: Array, obs: Observation, tick: int) -> Array:
    """The ask as said: within [floor, own last ask (at first the list price)], rounded up to a tick if that fits."""
    last = last_offer(offers_made(obs, SELLER), obs.turn)
    cap = jnp.maximum(jnp.where(last == NONE, obs.price, last), floor)
    return jnp.minimum(round_up(jnp.clip(ask, floor, cap), tick), cap)


@struct.dataclass
class StochasticType:
    """floor: int32 cents, F. beta: float32. reciprocity: int32 basis points, w."""

    floor: Array
    beta: Array
    reciprocity: Array


@dataclasses.dataclass(frozen=True)
class Stochastic(Seller):
    """The seller to train against: a hidden type, and asks noisy enough to be worth reading.

    Hidden, drawn once per episode:  m ~ U{margin} in basis points, F = max(ceil(C (1 + m)), C + 1);  log beta ~ U[log
    of `beta`];  w ~ U{reciprocity} in basis points. With P = max(P0, F), o_t the offer in the buyer's message of turn
    t = 0 .. T - 1 and o' its latest one before that, in cents:

        alpha_t  = k + (1 - k) (t / (T - 1))^(1 / beta)
        raise_t  = max(o_t - o', 0), or 0 where either is missing
        x_t      = F + ceil((1 - alpha_t) (P - F)) - floor(w raise_t) + floor(e_t P0),    e_t ~ N(0, noise^2) in [-1, 1]
        ask_t    = min(tick * ceil(clip(x_t, F, cap_t) / tick), cap_t)

    where cap_t is its own last ask (at first P) or F if that is higher, and alpha_t and e_t are rounded to the nearest
    basis point. With s the buyer's standing offer, it

        takes s           if s >= ask_t, or t = T - 1 and s >= F;
        else walks away   with probability walk * max(1 - s / (insult P0), 0);
        else              asks ask_t.

    With no standing offer it neither takes nor walks. e_t and the walk are independent across turns.
    """

    margin: tuple[float, float] = (0.02, 0.25)
    beta: tuple[float, float] = (0.4, 2.0)
    reciprocity: tuple[float, float] = (0.0, 0.5)
    k: float = 0.05
    noise: float = 0.03
    insult: float = 0.35
    walk: float = 0.3
    tick: int = 1

    def __post_init__(self):
        specs.require(self, "margin", 0 <= self.margin[0] <= self.margin[1] <= 1, "0 <= low <= high <= 1")
        specs.require(self, "beta", 1e-6 <= self.beta[0] <= self.beta[1], "1e-6 <= low <= high")
        low, high = self.reciprocity
        specs.require(self, "reciprocity", 0 <= low <= high <= 1, "0 <= low <= high <= 1")
        specs.require(self, "k", 0 <= self.k <= 1, "in [0, 1]")
        specs.require(self, "noise", self.noise >= 0, "at least 0")
        specs.require(self, "insult", self.insult > 0, "above 0 (walk=0 makes a seller that never walks away)")
        specs.require(self, "walk", 0 <= self.walk <= 1, "in [0, 1]")
        specs.require_tick(self)

    def highest_price(self, prices: ArrayLike, costs: ArrayLike) -> int:
        return highest_floor(prices, costs, self.margin[1])

    def describe(self, hidden: StochasticType) -> dict[str, str]:
        shown = {"beta": f"{hidden.beta:.3g}", "reciprocity": f"{hidden.reciprocity / BP:.3g}"}
        return {"floor": dollars(hidden.floor)} | shown

    def draw_type(self, key: Array, scenario: Scenario) -> StochasticType:
        u_margin, u_beta, u_reciprocity = jax.random.uniform(key, (3,))
        floor = least(scenario.cost, uniform_bp(u_margin, *basis_points(jnp.array(self.margin))))
        low, high = jnp.log(jnp.array(self.beta))
        reciprocity = uniform_bp(u_reciprocity, *basis_points(jnp.array(self.reciprocity)))
        floor = jnp.clip(floor, scenario.cost + 1, MAX_PRICE)
        return StochasticType(floor, beta=jnp.exp(low + u_beta * (high - low)), reciprocity=reciprocity)

    def stance(self, hidden: StochasticType, obs: Observation) -> tuple[Array, Array | float]:
        """F and `walk`, which a subclass may let depend on what was said."""
        del obs
        return hidden.floor, self.walk

    def act(self, key: Array, hidden: StochasticType, obs: Observation, turns: int) -> Action:
        key_noise, key_walk = jax.random.split(key)
        floor, walk = self.stance(hidden, obs)

        offers_T = offers_made(obs, BUYER)
        now, before = offers_T[obs.turn], last_offer(offers_T, obs.turn)
        raised = jnp.where((now != NONE) & (before != NONE), jnp.maximum(now - before, 0), 0)
        alpha = concession.alpha(concession.progress(obs.turn, turns), hidden.beta, self.k)
        target = concession.ask(jnp.maximum(obs.price, floor), floor, alpha)
        answer = part(raised, hidden.reciprocity)
        noise = part(obs.price, basis_points(jnp.clip(self.noise * jax.random.normal(key_noise), -1, 1)))
        ask = quote(target - answer + noise, floor, obs, self.tick)

        offer = obs.offers[BUYER]
        stands = offer != NONE
        accepts = stands & ((offer >= ask) | ((obs.turn == turns - 1) & (offer >= floor)))
        walk = walk * (1 - offer / (self.insult * obs.price.astype(jnp.float32)))
        walks = stands & ~accepts & (jax.random.uniform(key_walk) < walk)
        stays = deal_or(accepts, offer, ask)
        return stays.replace(kind=jnp.where(walks, Kind.QUIT, stays.kind), price=jnp.where(walks, NONE, stays.price))
