"""What arguments earn from a seller that they move: the best buyers found without them, by script, by hint.

  python -m experiments.persuasion --seller="persuadable(tick=100)" [--seller=SELLER ...] [--turns=6 --draws=2]

Offers and words are searched on the training products of the generated catalog at one list price, then played on other
draws of them. What is printed can be given to --config.evaluation.buyers; docs/persuasion.md says how it reads.
"""

from absl import flags
import jax

from experiments import cli
from negot_jax import catalog as catalogs
from negot_jax import progress
from negot_jax.game import sellers, specs
from negot_jax.game.types import MAX_TURNS
from negot_jax.solvers import ladders, persuasion
from negot_jax.solvers.problem import Problem
from negot_jax.solvers.utilities import UTILITIES


def main() -> None:
    with cli.checking_input(), progress.phases() as say:
        made = {spec: specs.require_named("--seller", sellers.make, spec) for spec in _SELLER.value}
        for spec, seller in made.items():
            if not seller.hears:
                hearing = ", ".join(name for name, own in sellers.SELLERS.items() if own.hears)
                raise ValueError(f"--seller={spec} hears no argument. Name one that does: {hearing}.")
        train, _ = catalogs.split(catalogs.load("generated"))
        prior = catalogs.products(catalogs.normalize(train))
        for spec in made:
            problem = Problem(made[spec], prior, _TURNS.value, UTILITIES["reward"])
            say(f"{spec}: searching offers and words")
            found = persuasion.search(jax.random.key(0), problem, draws=_DRAWS.value)
            say(f"{spec}: playing")
            print(f"{spec}, {_TURNS.value} turns, {len(prior.price)} products")
            for way, buyer in found.items():
                value, error = ladders.mean_utility(jax.random.key(1), buyer, problem, draws=8)
                print(f"{way:22} {value:.3f} +- {error:.3f}   {buyer.spec()}", flush=True)


if __name__ == "__main__":
    _SELLER = flags.DEFINE_multi_string("seller", ["persuadable(tick=100)"], "A scripted seller; may be repeated.")
    _TURNS = flags.DEFINE_integer("turns", 6, "Turn limit.", lower_bound=1, upper_bound=MAX_TURNS)
    _DRAWS = flags.DEFINE_integer(
        "draws", 2, "Episodes of each product that the search plays.", lower_bound=1, upper_bound=100
    )
    cli.run(main)
