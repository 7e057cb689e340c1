"""What the best buyer earns against a scripted seller, beside the tuned linear schedule and the best ladders.

  python -m experiments.best_response --seller="neutral(tick=100)" [--seller=SELLER ...] [--output=DIR]
  python -m experiments.best_response --seller=floor --turns=3 --cost="uniform(0, 1)" --value=1 \\
      --utility=surplus_per_price --grid=20

The prior is the training products of a catalog, or a distribution of cost over list price. docs/optimum.md says what
each row means and how far it can be trusted. With --output, best_response.json and best_response.png (values against
the number of turns) are written there. Several sellers get a table each, then one for all.
"""

import sys

from absl import flags

from experiments import cli
from negot_jax import catalog as catalogs
from negot_jax import progress
from negot_jax.evaluation import optimum
from negot_jax.game import sellers, specs
from negot_jax.game.types import MAX_TURNS, Products
from negot_jax.run import folder
from negot_jax.solvers.problem import Problem
from negot_jax.solvers.utilities import UTILITIES


def main() -> None:
    turns = _TURNS.value
    with cli.checking_input(), progress.phases() as say:
        makers = {spec: specs.require_named("--seller", sellers.make, spec) for spec in _SELLER.value}
        output = None if _OUTPUT.value is None else folder.local_folder(_OUTPUT.value, "--output")
        if output and len(makers) > 1:
            raise ValueError(f"--output={output} is for one seller; there are {len(makers)}. Leave it out.")
        grids, (prior, played), rows_of = optimum.steps(_GRID.value), products(), {}
        for spec, seller in makers.items():
            say_of = lambda step, spec=spec: say(f"{spec}, {step}")
            problem = Problem(seller, prior, turns, UTILITIES[_UTILITY.value], _DISCOUNT.value)
            rows_of[spec], solutions = optimum.compare(problem, played, grids, say_of)
            print(f"{seller}\n{turns} turns, {len(prior.price)} products, ", end="")
            print(f"discount {_DISCOUNT.value:g}, {_UTILITY.value}\n{optimum.table(rows_of[spec])}", flush=True)
            if len(grids) > 1:
                print(optimum.refinement(grids, solutions), flush=True)
        if len(makers) > 1:
            print(optimum.summary(rows_of))
        if output:
            of = lambda n: optimum.compare(problem.replace(turns=n), played, grids[-1:], say_of)[0]
            given = {flag.name: flag.value for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0])}
            optimum.save(output, [*map(of, range(1, turns)), rows_of[spec]], _UTILITY.value, given)
            print(f"wrote {output}/{' and '.join(optimum.FILES)}")


def products() -> tuple[Products, Products]:
    """At one list price, to solve for, and as they are played."""
    if not 0 < _DISCOUNT.value <= 1:
        raise ValueError(f"--discount={_DISCOUNT.value}: a factor per round must be above 0 and at most 1")
    if _COST.value is not None:
        for flag in (_CATALOG, _DATA_DIR, _TEST, _PRICES):
            if flag.present:
                raise ValueError(f"--{flag.name}={flag.value} does not go with --cost={_COST.value}: give one of them")
        prior = optimum.uniform_prior(_COST.value, 0.8 if _VALUE.value is None else _VALUE.value)
        return prior, prior
    if _VALUE.value is not None:
        raise ValueError(f"--value={_VALUE.value} goes with --cost; a catalog has its own budgets")
    if _UTILITY.value == "surplus" and _PRICES.value == "dollars":
        raise ValueError(
            "--utility=surplus --prices=dollars: the bounds are in cents of a list price of $100, and what is played "
            "in each product's. Take --utility=surplus_per_price."
        )
    train, _ = catalogs.split(catalogs.load(_CATALOG.value, data_dir=_DATA_DIR.value), _TEST.value)
    prior = catalogs.products(catalogs.normalize(train))
    return prior, prior if _PRICES.value == "normalized" else catalogs.products(train)


if __name__ == "__main__":
    _SELLER = flags.DEFINE_multi_string("seller", ["neutral(tick=100)"], "A scripted seller; may be given repeatedly.")
    _TURNS = flags.DEFINE_integer("turns", 6, "Turn limit.", lower_bound=1, upper_bound=MAX_TURNS)
    _UTILITY = flags.DEFINE_enum("utility", "reward", list(UTILITIES), "What the buyer maximizes.")
    _DISCOUNT = flags.DEFINE_float("discount", 1.0, "Factor on a deal for each completed round before it.")
    _CATALOG = flags.DEFINE_enum("catalog", "generated", catalogs.CATALOGS, "Whose training products to solve for.")
    _DATA_DIR = flags.DEFINE_string("data_dir", None, "As catalog.data_dir of a run: a folder, or your product file.")
    _TEST = flags.DEFINE_integer("test", 128, "As catalog.test of a run: held-out products, which are left out.")
    _PRICES = flags.DEFINE_enum("prices", "normalized", ["normalized", "dollars"], "Prices to play at.")
    _GRID = flags.DEFINE_list("grid", [], "Step of the price grid, cents of $100; several show its error: 400,200,100.")
    _COST = flags.DEFINE_string("cost", None, "A prior of cost over list price instead of a catalog: uniform(0, 1).")
    _VALUE = flags.DEFINE_float("value", None, "With --cost: budget over list price, 0.8 if not given.")
    _OUTPUT = flags.DEFINE_string("output", None, "Folder for JSON and plot; solves for fewer turns as well.")
    cli.run(main)
