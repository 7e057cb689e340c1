"""The game's data: pytrees of integers, one episode each (batch them with `jax.vmap`). Money is int32 cents."""

import enum

from flax import struct
import jax

BUYER, SELLER = 0, 1
SIDES = ("buyer", "seller")  # Their names, by role.
NONE = -1  # No price: no offer stands, no deal was made, no message was sent.
MAX_TURNS = 100
MAX_PRICE = 999_999_999  # $9,999,999.99, the largest readable price.


class Kind(enum.IntEnum):
    """The kind of a message's action. The last three could not be read."""

    OFFER = 0  # [BUY] from the buyer, [SELL] from the seller
    REJECT = 1
    DEAL = 2
    QUIT = 3
    MISSING = 4  # no Action line at all
    UNREADABLE = 5  # an Action line that holds no readable action
    CUT = 6  # the message reached its token cap before its action was complete


class End(enum.IntEnum):
    """How an episode ended. Every end but ONGOING absorbs."""

    ONGOING = 0
    DEAL = 1
    BUYER_QUIT = 2
    SELLER_QUIT = 3
    TURN_LIMIT = 4
    OVERSHOOT = 5  # the buyer offered, or closed a deal, above its budget
    # Format errors of the buyer, each kind counted apart.
    MISSING = 6
    UNREADABLE = 7
    CUT = 8
    DEAL_WITHOUT_OFFER = 9
    DEAL_MISMATCH = 10
    SELLER_ILLEGAL = 11  # an illegal seller move, where regulation ends the game


class Argument(enum.IntEnum):
    """A kind of argument that a message's talk may use: bit `1 << kind` of `Action.acts`."""

    COMPARISON = 0  # it costs less elsewhere
    DEFECT = 1  # its condition
    BUDGET = 2  # a limit to what can be paid
    LOYALTY = 3  # repeat business
    URGENCY = 4  # payment at once
    COURTESY = 5
    FLATTERY = 6
    INSULT = 7
    THREAT = 8  # to leave
    FAIRNESS = 9


class Stream(enum.IntEnum):
    """What a scenario's key is folded with: one number per purpose."""

    TYPE = 0  # the seller's hidden type
    NOISE = 1  # the seller's noise, folded again with the turn
    REPAIR = 2  # the margin of the replacement moves
    WORDING = 3  # how a scripted side words its action, folded again with the turn
    SPEECH = 4  # the tokens of a frozen language model, folded again with the turn
    BUYER = 5  # which of several scripted buyers it is


@struct.dataclass
class Action:
    """One message's action.

    kind: int32, a `Kind`. price: int32 cents, `NONE` unless kind is OFFER or DEAL.
    acts: int32, the arguments in its talk, one bit per kind of `Argument`.
    """

    kind: jax.Array
    price: jax.Array
    acts: jax.Array


@struct.dataclass
class Products:
    """The columns of a catalog that the game needs: int32 cents, [products].

    price: the public list price P0. budget: the buyer's private B. cost: the seller's private C.
    scale: the reward's denominator, |B - C| widened to one dollar (in the units of the prices).
    """

    price: jax.Array
    budget: jax.Array
    cost: jax.Array
    scale: jax.Array


@struct.dataclass
class Scenario(Products):
    """One draw of the game: a row of `Products`, its number (int32), and a PRNG key (typed, scalar). The seller's
    hidden type and noise are functions of key and turn alone, so all members of a group share them.
    """

    product: jax.Array
    key: jax.Array


@struct.dataclass
class GameState:
    """Everything that has happened. T = the turn limit; a turn is a buyer message and a seller message.

    turn: int32, 0-based. player: int32, who speaks next. offers: int32[2] cents, each side's standing offer.
    kinds, prices, acts: int32[T, 2], the actions after regulation; `NONE`, and no acts, where there is none yet.
    end: int32, an `End`. deal_price: int32 cents. interventions: int32, illegal seller moves that regulation met.
    """

    scenario: Scenario
    turn: jax.Array
    player: jax.Array
    offers: jax.Array
    kinds: jax.Array
    prices: jax.Array
    acts: jax.Array
    end: jax.Array
    deal_price: jax.Array
    interventions: jax.Array


@struct.dataclass
class Observation:
    """What one side may know: the public history, as in `GameState`, and its own private number.

    role: int32. price: int32 cents, P0. private: int32 cents, the budget or the cost.
    """

    role: jax.Array
    turn: jax.Array
    price: jax.Array
    private: jax.Array
    offers: jax.Array
    kinds: jax.Array
    prices: jax.Array
    acts: jax.Array


@struct.dataclass
class Outcome:
    """The result of a finished (or interrupted) episode, as one side sees it; the input of every reward and metric.

    end: int32, an `End`. reward: float32, this side's. failed: bool, whether it ended on this side's own failure.
    ratio, other_ratio: float32, this side's and the other's share of `scale` on a deal, else 0: (B - P) / scale for the
    buyer, (P - C) / scale for the seller. deal_price, first_offer (the buyer's): int32 cents, `NONE` without one.
    turns: int32, turns begun. mutual: bool, budget above cost. gains: float32, max(B - C, 0) as a share of the list
    price. interventions: int32. first_ratio: float32, first offer / B, else 0. high_asks: int32, seller offers above P0
    or its own last one. acts: int32[T], the arguments in the buyer's messages, as in `Action`.
    """

    end: jax.Array
    reward: jax.Array
    deal_price: jax.Array
    first_offer: jax.Array
    turns: jax.Array
    mutual: jax.Array
    gains: jax.Array
    interventions: jax.Array
    ratio: jax.Array
    other_ratio: jax.Array
    failed: jax.Array
    first_ratio: jax.Array
    high_asks: jax.Array
    acts: jax.Array


@struct.dataclass
class GameParams:
    """The rules of one game. `products` is data; the rest is static.

    turns: the turn limit (a turn is a buyer message and a seller message). regulation: what happens to an illegal
    seller move: 'repair' replaces it by a legal counter-offer, 'end' ends the game without a deal, 'none' lets a
    malformed message lose the turn and enforces no floor. reward: a key of `rewards.REWARDS`.
    """

    products: Products
    turns: int = struct.field(pytree_node=False, default=6)
    regulation: str = struct.field(pytree_node=False, default="repair")
    reward: str = struct.field(pytree_node=False, default="paper")
