"""The results that `experiments.theory` prints, each a function of its options.

The first line of a docstring is the result's title. Prices, values and costs are in any one unit unless said; a
discount is a factor a round; costs are uniform on [low, high].
"""

import dataclasses
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np

from negot_jax import catalog as catalogs
from negot_jax.game import buyers, sellers
from negot_jax.game.money import BP, part, part_up
from negot_jax.game.play import Buyer
from negot_jax.game.types import Action, GameParams, Kind, Observation, Products
from negot_jax.solvers import backward_induction, best_response, closed_forms, market, playing, small_games
from negot_jax.solvers.utilities import UTILITIES, Utility, surplus

_HUNDRED = 10_000  # Cents of a market's list price.


@dataclasses.dataclass(frozen=True)
class Line:
    """What was computed from the game, and what the literature says it is; numbers, or arrays of one length."""

    name: str
    computed: float | np.ndarray
    known: float | np.ndarray | None = None


def _require(holds: bool, wanted: str, **values: object) -> None:
    if not holds:
        raise ValueError(f"{', '.join(f'--{name}={value}' for name, value in values.items())}: {wanted}")


def _require_at_least(least: int, **values: int) -> None:
    for name, value in values.items():
        _require(value >= least, f"must be at least {least}", **{name: value})


def _require_discount(**values: float) -> None:
    for name, value in values.items():
        _require(0 < value <= 1, "a factor a round must be above 0 and at most 1", **{name: value})


def _floor_seller(margin: float) -> sellers.Floor:
    _require(0 <= margin <= 10, "must be in [0, 10]", margin=margin)
    return sellers.Floor(margin)


def ultimatum(value: int = 100, cost: int = 40, margin: float = 0.0) -> list[Line]:
    """Ultimatum: who proposes takes all (Gueth et al. 1982), in whole ticks."""
    seller = _floor_seller(margin)
    floor = -(-cost * (BP + round(margin * BP)) // BP)
    _require(1 <= value <= market.MAX_LIST_PRICE, f"must be from 1 to {market.MAX_LIST_PRICE} ticks", value=value)
    _require(
        0 <= cost and floor <= value, f"no deal within value={value}: need 0 <= cost * (1 + margin) <= value", cost=cost
    )
    earned, _, buyer = backward_induction.solve(seller, market.make(value, value, [cost]), 1, surplus)
    (price,) = buyer.ladder()
    return [
        Line("price", float(price), float(floor)),
        Line("buyer's payoff", earned, float(value - floor)),
        Line("seller's payoff", float(price - cost), float(floor - cost)),
    ]


def _discounts(discount: tuple[float, ...], breakdown: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """The two players' discounts, and what they come to with the chance that talks break down."""
    _require(len(discount) in (1, 2), "one factor, or one for each player", discount=discount)
    for factor in discount:
        _require(0 <= factor <= 1, "a factor a round must be in [0, 1]", discount=factor)
    _require(0 <= breakdown <= 1, "a chance must be in [0, 1]", breakdown=breakdown)
    first, second = discount if len(discount) == 2 else discount * 2
    return (first, second), (first * (1 - breakdown), second * (1 - breakdown))


def alternating_offers(
    rounds: int = 3, discount: tuple[float, ...] = (0.9,), breakdown: float = 0.0, ticks: int = 10_000
) -> list[Line]:
    """Alternating offers that end (Stahl 1972)."""
    _require(1 <= rounds <= 10**6, "must be from 1 to a million", rounds=rounds)
    _require_at_least(1, ticks=ticks)
    discounts, effective = _discounts(discount, breakdown)
    share = small_games.alternating_offers(rounds, discounts, breakdown, ticks)
    return [Line("first proposer's share", share, closed_forms.alternating_share(rounds, effective))]


def rubinstein(discount: tuple[float, ...] = (0.9,), breakdown: float = 0.0, ticks: int = 10**8) -> list[Line]:
    """Alternating offers without end (Rubinstein 1982), from so many rounds that more would change nothing."""
    _require_at_least(1, ticks=ticks)
    discounts, effective = _discounts(discount, breakdown)
    both = effective[0] * effective[1]
    _require(both <= 0.9999, "too patient to be solved: a round must cost the two at least 0.01 %", discount=discount)
    rounds = 3 if both == 0 else 2 * int(np.ceil(np.log(1e-12) / np.log(both))) + 1
    share = small_games.alternating_offers(rounds, discounts, breakdown, ticks)
    return [Line(f"first proposer's share of {rounds} rounds", share, closed_forms.rubinstein_share(effective))]


def posted_price(
    value: float = 80.0, low: float = 20.0, high: float = 100.0, margin: float = 0.0, step: int = 10
) -> list[Line]:
    """The best posted price (Samuelson 1980)."""
    return _offers(1, value, low, high, 1.0, margin, step)


def myopic_seller(
    offers: int = 3,
    value: float = 1.0,
    low: float = 0.0,
    high: float = 1.0,
    margin: float = 0.0,
    step: int = 10,
) -> list[Line]:
    """Offers to a myopic seller, who takes what covers its cost."""
    return _offers(offers, value, low, high, 1.0, margin, step)


def discounted_offers(
    offers: int = 3,
    discount: float = 0.9,
    value: float = 1.0,
    low: float = 0.0,
    high: float = 1.0,
    margin: float = 0.0,
    step: int = 10,
) -> list[Line]:
    """Offers to a myopic seller, by a buyer who is impatient."""
    return _offers(offers, value, low, high, discount, margin, step)


def _offers(
    offers: int, value: float, low: float, high: float, discount: float, margin: float, step: int
) -> list[Line]:
    _require_at_least(1, offers=offers)
    _require_discount(discount=discount)
    _require(2 <= step <= 1_000, "must be from 2 to 1000", step=step)
    seller = _floor_seller(margin)
    _require(value > 0, "must be above 0", value=value)
    _require(0 <= low < high, "need 0 <= low < high", low=low, high=high)
    _require(
        low * (1 + margin) < value, f"no deal within value={value:g}: a lower cost is needed", low=low, margin=margin
    )
    # A cost above the value changes no decision: those are left out, and no deal with them is counted.
    top = min(high, value)
    weight = value * (top - low) / (high - low)
    costs = max(1, round((top - low) / value * _HUNDRED / step))
    products = market.uniform(low / value, top / value, 1.0, costs)
    earned, _, buyer = backward_induction.solve(seller, products, offers, surplus, discount=discount, step=step)
    known = closed_forms.myopic_offers(offers, value, low * (1 + margin), high * (1 + margin), discount)
    ladder = buyer.ladder() / _HUNDRED * value
    ladder = ladder[: ladder.argmax() + 1]  # After it all have sold.
    payoff, prices = known or (None, None)
    return [
        Line("buyer's payoff", earned / _HUNDRED * weight, payoff),
        Line("offers", ladder, prices if prices is None else prices[: len(ladder)]),
    ]


def whole_prices(offers: int = 3, value: int = 100, low: int = 0, high: int = 99) -> list[Line]:
    """Offers to a myopic seller in whole ticks, every whole cost from low to high being as likely."""
    _require_at_least(1, offers=offers)
    _require(1 <= value <= 2_000, "must be from 1 to 2000 ticks", value=value)
    _require(
        0 <= low <= min(value, high) and high <= 10_000, "need 0 <= low <= value, high <= 10000", low=low, high=high
    )
    products = market.make(value, value, np.arange(low, high + 1))
    earned, _, buyer = backward_induction.solve(sellers.Floor(), products, offers, surplus)
    known = closed_forms.whole_offers(offers, value, low, high)
    return [Line("buyer's payoff", earned, known), Line("offers", buyer.ladder())]


def patient_seller(
    offers: int = 3,
    value: float = 1.0,
    low: float = 0.0,
    high: float = 1.0,
    buyer_discount: float = 1.0,
    seller_discount: float = 1.0,
    ladder: tuple[float, ...] = (),
    costs: int = 1_000,
    prices: int = 21,
) -> list[Line]:
    """Offers that a buyer is bound to, to sellers who wait for the best (Stokey 1979; Riley and Zeckhauser 1983)."""
    _require_at_least(1, offers=offers, costs=costs)
    _require_discount(buyer_discount=buyer_discount, seller_discount=seller_discount)
    _require(0 <= low < high, "need 0 <= low < high", low=low, high=high)
    _require(low < value, "no deal is possible: need low < value", low=low, value=value)
    _require(
        prices >= 2 and prices**offers <= 200_000,
        "too many ladders: need prices ** offers <= 200000",
        prices=prices,
        offers=offers,
    )
    drawn = low + (high - low) * (np.arange(costs) + 0.5) / costs
    game = dict(value=value, buyer_discount=buyer_discount, seller_discount=seller_discount)
    best = small_games.best_committed_ladder(offers, drawn, np.linspace(low, value, prices), **game)
    # Of equally patient players alone is it known that one price is best.
    known = closed_forms.myopic_offers(1, value, low, high)[0] if buyer_discount == seller_discount else None
    lines = [Line("the best ladder's payoff", best, known)]
    if ladder:
        lines.append(Line("the given ladder's payoff", small_games.committed_ladder(np.array(ladder), drawn, **game)))
    return lines


def double_auction(share: float = 0.5, types: int = 1_000) -> list[Line]:
    """The double auction's linear equilibrium (Chatterjee and Samuelson 1983), by best responses from truthful bids.

    One of a continuum of equilibria.
    """
    _require(0 <= share <= 1, "must be in [0, 1]", share=share)
    _require(50 <= types <= 2_000, "must be from 50 to 2000", types=types)
    bid, ask, regret = small_games.linear_equilibrium(share, types)
    known_bid, known_ask = closed_forms.auction_bids(share)
    values = (np.arange(types) + 0.5) / types
    outcome = small_games.auction_outcome(values, np.polyval(bid, values), values, np.polyval(ask, values))
    names = ("P(trade)", "mean gain from trade", "of the first best")
    return [
        Line("bid: slope, intercept", np.array(bid), np.array(known_bid)),
        Line("ask: slope, intercept", np.array(ask), np.array(known_ask)),
        Line("the most that any type would gain by another bid", regret, 0.0),
        *map(Line, names, outcome, closed_forms.auction_outcome(share)),
    ]


def concession(
    beta: float = 1.0,
    k: float = 0.1,
    progress: float = 0.5,
    list_price: int = _HUNDRED,
    cost: int = 0,
    margin: float = 0.0,
) -> list[Line]:
    """Time-dependent concession (Faratin, Sierra and Jennings 1998), off the asks of the game's seller, in cents."""
    _floor_seller(margin)
    seller = sellers.TimeDependent(beta, k, margin)
    _require(0 <= progress <= 1, "must be in [0, 1]", progress=progress)
    most = market.MAX_LIST_PRICE
    _require(1 <= list_price <= most, f"must be from 1 to {most}", list_price=list_price)
    floor = cost * (1 + margin)
    _require(0 <= floor < list_price, "need 0 <= cost * (1 + margin) < list_price", cost=cost, margin=margin)
    time = Fraction(progress).limit_denominator(500)  # The game's turns are whole.
    _, asks_TxN = backward_induction.replies(seller, market.make(list_price, list_price, [cost]), time.denominator + 1)
    ask = float(asks_TxN[time.numerator, 0])
    alpha = closed_forms.conceded(progress, beta, k)
    return [
        Line("share conceded", (list_price - ask) / (list_price - floor), alpha),
        Line("ask", ask, floor + (1 - alpha) * (list_price - floor)),
    ]


def known_seller(
    seller: str = "linear",
    offers: int = 6,
    value: float = 0.8,
    low: float = 0.2,
    high: float = 1.0,
    utility: str = "surplus_per_price",
    discount: float = 1.0,
    ladder: tuple[float, ...] = (),
    schedule: tuple[float, ...] = (0.4, 1.0),
    costs: int = 1_000,
    step: int = 100,
) -> list[Line]:
    """The best response to a known seller: no policy earns more than it, nor it more than one who knows the cost.

    Value, costs and ladder are parts of the list price.
    """
    _require_at_least(1, offers=offers, costs=costs, step=step)
    _require_discount(discount=discount)
    _require(0 < value <= 1, "a part of the list price must be above 0 and at most 1", value=value)
    _require(0 <= low < high <= 10, "need 0 <= low < high <= 10", low=low, high=high)
    policies = _policies(offers, ladder, schedule)
    worth, rules = _utility(utility), sellers.make(seller)
    products = market.uniform(low, high, value, costs)
    solution = best_response.solve(jax.random.key(0), rules, products, offers, worth, discount=discount, step=step)

    def earned(policy: Buyer) -> tuple[float, float]:
        params = GameParams(products, offers)
        return playing.mean_utility(jax.random.key(1), policy, rules, params, worth, discount=discount)

    known = None
    if isinstance(rules, sellers.Floor) and utility == "surplus_per_price":
        known = closed_forms.myopic_offers(offers, value, low * (1 + rules.margin), high * (1 + rules.margin), discount)
    mean, error = earned(solution.buyer)
    return [
        Line("who knows the cost", solution.clairvoyant),
        Line("optimum" if solution.exact else "upper bound of the optimum", solution.upper, known and known[0]),
        Line("the best buyer found, played", mean, solution.upper if solution.exact else None),
        Line("  its standard error", error),
        *(Line(name, earned(policy)[0]) for name, policy in policies.items()),
    ]


def real(
    offers: int = 6,
    utility: str = "surplus_per_price",
    margin: float = 0.0,
    ladder: tuple[float, ...] = (),
    schedule: tuple[float, ...] = (),
    step: int = 100,
    catalog: str = "amazon_history_price",
    data_dir: str | None = None,
) -> list[Line]:
    """All products of a catalogue and a myopic seller, whose costs the buyer knows the distribution of.

    Solved and played at a list price of $100.00; the reward is played at the products' own prices. Without a schedule
    to play for it, the best one on a grid of 1 % is found.
    """
    _require_at_least(1, offers=offers, step=step)
    policies = _policies(offers, ladder, schedule)
    worth, seller = _utility(utility), _floor_seller(margin)
    own = catalogs.load(catalog, data_dir=data_dir)
    prior = catalogs.products(catalogs.normalize(own))
    played = catalogs.products(own) if utility == "reward" else prior
    params = GameParams(played, offers)
    optimum, _, buyer = backward_induction.solve(seller, prior, offers, worth, step=step)

    def earned(policy) -> np.ndarray:
        mean, _ = playing.mean_utility(jax.random.key(0), policy, seller, params, worth, draws=1)
        return np.array([mean, mean / first_best])

    first_best = _first_best(played, margin, worth)
    rungs = buyer.ladder() / buyer.unit.price
    named = {"optimum, played": _Ladder.of(rungs), **policies}
    if utility == "reward" and not schedule:
        tuned, _ = buyers.tune_linear(seller, played, params, jax.random.key(0))
        named[f"best linear schedule, {tuned.start:g} to {tuned.end:g}"] = tuned
    return [
        Line("who knows the cost", first_best),
        Line("optimum, and its share of that", np.array([optimum, optimum / first_best])),
        Line("  its offers, of the list price", rungs),
        *(Line(name, earned(policy)) for name, policy in named.items()),
    ]


def _first_best(products: Products, margin: float, utility: Utility) -> float:
    """The mean utility of a buyer who buys at the seller's floor, where that is worth it."""
    floor = products.cost + part_up(products.cost, jnp.int32(round(margin * BP)))
    at_floor = jax.vmap(lambda price, product: utility(price[None], product)[0, 0])(floor, products)
    return float(jnp.maximum(at_floor, 0).mean())


def _utility(name: str) -> Utility:
    _require(name in UTILITIES, f"must be one of {', '.join(UTILITIES)}", utility=name)
    return UTILITIES[name]


def _policies(offers: int, ladder: tuple[float, ...], schedule: tuple[float, ...]) -> dict[str, Buyer]:
    """What is to be played besides the solver's buyer, by name."""
    _require(len(ladder) in (0, offers), f"has {len(ladder)} offers; give --offers={len(ladder)}", ladder=ladder)
    _require(all(0 <= offer <= 1 for offer in ladder), "offers are parts of the list price, in [0, 1]", ladder=ladder)
    _require(len(schedule) in (0, 2), "give the first and the last offer, such as 0.4,1", schedule=schedule)
    named = {"the given ladder": _Ladder.of(ladder)} if ladder else {}
    if schedule:
        named["linear schedule, {:g} to {:g}".format(*schedule)] = buyers.Linear(*schedule)
    return named


@dataclasses.dataclass(frozen=True)
class _Ladder:
    """A buyer of fixed offers, basis points of the list price, rounded down to a cent and within the budget."""

    bp_T: tuple[int, ...]

    @classmethod
    def of(cls, shares) -> "_Ladder":
        return cls(tuple(round(float(share) * BP) for share in shares))

    def act(self, key: jax.Array, obs: Observation, turns: int) -> Action:
        del key, turns
        offer = jnp.minimum(part(obs.price, jnp.array(self.bp_T)[obs.turn]), obs.private)
        return Action(kind=jnp.int32(Kind.OFFER), price=offer, acts=jnp.int32(0))
