"""What arguments are worth against a seller that words move: the best buyers without them, by script, and by hint.

All three follow one ladder of offers and read no ask, so what one earns above another is what its words earn.
"""

from collections.abc import Iterator, Sequence
import functools

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from negot_jax.game.history import last_hint
from negot_jax.game.types import Action, Argument, Observation
from negot_jax.solvers import ladders, market
from negot_jax.solvers.problem import Problem

HINTED = -1  # The argument that the seller's words hinted at last.
WAYS = ("no arguments", "a fixed script", "by the seller's hints")
_BATCH = 32  # Buyers a call, so that all stages of a search run one compiled program.
_WORDS = (0, *(1 << kind for kind in Argument))


@struct.dataclass
class Persuader:
    """A ladder of offers and of acts.

    offers_T: int32, prices in `unit`. words_2xT: int32, the acts before the seller has hinted at anything, and after;
    or `HINTED`.
    """

    offers_T: Array
    words_2xT: Array
    unit: market.Unit = struct.field(pytree_node=False)

    def act(self, key: Array, obs: Observation, turns: int) -> Action:
        del key, turns
        hint = last_hint(obs)
        word = self.words_2xT[(hint > 0).astype(jnp.int32), obs.turn]
        acts = jnp.where(word == HINTED, hint, word)
        return self.unit.propose(self.offers_T[obs.turn], obs).replace(acts=acts)

    def spec(self) -> str:
        """The same buyer as `buyers.make` reads it."""
        shares = tuple(float(f"{offer / self.unit.budget:g}") for offer in np.asarray(self.offers_T).tolist())
        return f"arguing(buyer=ladder(shares={shares}), script='{self._script()}')"

    def _script(self) -> str:
        names = {0: "nothing", HINTED: "hinted"} | {1 << kind: kind.name.lower() for kind in Argument}
        before, after = ([names[word] for word in words] for words in np.asarray(self.words_2xT).tolist())
        said = zip(before, after, strict=True)
        return " ".join(one if one == other else f"{other}/{one}" for one, other in said)


def search(key: Array, problem: Problem, *, draws: int = 2, step: int = 200) -> dict[str, Persuader]:
    """The best buyer found in each of `WAYS`, by coordinate ascent on the game, each from the one before.

    Args:
      problem: its products have one list price and budget. step: of the price grid, cents.
    """
    unit, turns = problem.unit, problem.turns
    rising = np.linspace(unit.budget / 2, unit.budget, turns).astype(np.int32) // step * step
    best = Persuader(rising, np.zeros((2, turns), np.int32), unit)
    found = {}
    for way in WAYS:
        starts = [best]
        if way == WAYS[2]:  # To follow every hint is many single steps away from a script.
            starts.append(best.replace(words_2xT=np.stack([best.words_2xT[0], np.full(turns, HINTED)])))
        climbed = [_ascend(key, start, problem, way, draws, step) for start in starts]
        found[way] = best = max(climbed, key=lambda scored: scored[0])[1]
    return found


def _ascend(key: Array, buyer: Persuader, problem: Problem, way: str, draws: int, step: int) -> tuple[float, Persuader]:
    """Its mean utility, and a buyer in which no single offer or word can be changed for the better."""
    best, gained = -np.inf, True
    while gained:
        gained = False
        for field, at, values in _places(buyer, way, step):
            tried = [_changed(buyer, field, at, value) for value in values]
            worth = _means(key, tried, problem, draws)
            if worth.max() > best + 1e-4:
                best, gained = worth.max(), True
                buyer = tried[int(worth.argmax())]
    return float(best), buyer


def _places(buyer: Persuader, way: str, step: int) -> Iterator[tuple[str, tuple, Sequence[int]]]:
    """One offer or word after the other, from the last turn to the first: field, index, and what may stand there."""
    prices = np.arange(0, buyer.unit.budget + 1, step)
    for turn in reversed(range(buyer.offers_T.size)):
        yield "offers_T", (turn,), prices
        if way == WAYS[1]:
            yield "words_2xT", (slice(None), turn), _WORDS
        elif way == WAYS[2]:
            yield "words_2xT", (0, turn), _WORDS
            yield "words_2xT", (1, turn), (*_WORDS, HINTED)


def _changed(buyer: Persuader, field: str, at: tuple, value: int) -> Persuader:
    table = np.array(getattr(buyer, field))
    table[at] = value
    return buyer.replace(**{field: table})


def _means(key: Array, buyers: list[Persuader], problem: Problem, draws: int) -> np.ndarray:
    """The mean utility of each buyer, all on the same episodes."""
    parts = []
    for start in range(0, len(buyers), _BATCH):
        part = (buyers[start : start + _BATCH] + buyers[:1] * _BATCH)[:_BATCH]
        stacked = jax.tree.map(lambda *x: jnp.stack(x), *part)
        parts.append(np.asarray(_played(key, stacked, problem, draws)))
    return np.concatenate(parts)[: len(buyers)]


@functools.partial(jax.jit, static_argnames="draws")
def _played(key: Array, buyers: Persuader, problem: Problem, draws: int) -> Array:
    mean = lambda buyer: ladders.utilities(key, buyer, problem, draws).mean()
    return jax.lax.map(mean, buyers, batch_size=8)
