"""The game alone: scripted buyer against scripted seller under the full rules, episodes a second by batch size.

  python -m experiments.bench.game [--seller=SELLER ...] [--batch=EPISODES ...] [--repeats=7] [--json]

A call draws products and sellers, plays every episode to its end, and returns all final states and outcomes.
"""

import functools
import json

from absl import flags
import jax

from experiments import cli
from experiments.bench import timing
from negot_jax.catalog import synthetic
from negot_jax.catalog.types import products
from negot_jax.game import bargaining, buyers, sellers, specs
from negot_jax.game.play import play
from negot_jax.game.types import GameParams


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _draw_and_play(key: jax.Array, buyer: buyers.Buyer, seller: sellers.Seller, batch: int, params: GameParams):
    key_scenarios, key_buyer = jax.random.split(key)
    scenarios = jax.vmap(bargaining.draw, (0, None))(jax.random.split(key_scenarios, batch), params.products)
    return play(key_buyer, buyer, seller, scenarios, params)


def measure(seller: str, batch: int, repeats: int) -> dict:
    """Episodes a second of the linear buyer against a seller, and seconds of the first call."""
    params = GameParams(products(synthetic.load()))
    players = buyers.make("linear"), sellers.make(seller)
    run = lambda i: _draw_and_play(jax.random.key(i), *players, batch, params)
    first = timing.seconds(lambda: run(0))
    rates = [batch / timing.seconds(functools.partial(run, i)) for i in range(1, repeats + 1)]
    return {"seller": seller, "batch": batch, "first_call_s": first, "episodes_per_s": timing.summary(rates)}


def main() -> None:
    with cli.checking_input():
        for seller in _SELLERS.value:
            specs.require_named("--seller", sellers.make, seller)
    machine = timing.machine()  # Before the load that this makes.
    rows = [measure(seller, batch, _REPEATS.value) for seller in _SELLERS.value for batch in _BATCHES.value]
    if _JSON.value:
        print(json.dumps({"machine": machine, "rows": rows}))
        return
    for row in rows:
        print(f"{row['seller']:20} {row['batch']:6} {timing.spread(row['episodes_per_s'], 0)} episodes/s")


if __name__ == "__main__":
    _SELLERS = flags.DEFINE_multi_string("seller", ["floor", "neutral(tick=100)"], "Scripted sellers.")
    _BATCHES = flags.DEFINE_multi_integer(
        "batch", [64, 1024, 16_384, 65_536], "Episodes per call.", lower_bound=1, upper_bound=2**24
    )
    _REPEATS = flags.DEFINE_integer("repeats", 7, "Timed calls of each.", lower_bound=1)
    _JSON = flags.DEFINE_bool("json", False, "One line of JSON, with versions.")
    cli.run(main)
