"""Reports on a trained buyer, finished or not, under the run's own settings or under others.

  python -m experiments.evaluate --workdir=DIR [--config.x.y=v] [--seller=SELLER ...] [--every_checkpoint]

Any field of catalog, game, language, evaluation, mesh and the learner's opponent can be set: another seller, other
products or prices, more episodes, other devices; experiments.train --help lists them. The report goes to DIR/report, or
to a folder beside it that is named after what differs. With --every_checkpoint the earlier checkpoints are rows as
well, and points of the learning curves.
"""

from absl import flags

from experiments import cli
from negot_jax import run


def main() -> None:
    with cli.checking_input():
        overrides, sellers = _overrides(), _SELLERS.value
        if _OUTPUT.value is not None and len(sellers) > 1:
            raise ValueError(f"--output={_OUTPUT.value} holds one report, but --seller is given {len(sellers)} times.")
        if sellers and "game.seller" in overrides:
            raise ValueError("--seller and --config.game.seller say the same thing. Give one of them.")
        buyer = run.open(_WORKDIR.value)
        terms = [overrides | {"game.seller": seller} for seller in sellers] or [overrides]
        evaluations = [buyer.prepare_evaluation(own, _OUTPUT.value, _EVERY.value) for own in terms]
    for evaluation in evaluations:
        report = evaluation.report()
        print(f"{report}\n{report.folder}\n", flush=True)


if __name__ == "__main__":
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run made by experiments.train.", required=True)
    _overrides = cli.define_overrides(run.Config, "Fields of the run to override: --config.x.y=v.")
    _SELLERS = flags.DEFINE_multi_string("seller", [], "Sellers to meet, a report each: --config.game.seller repeated.")
    _EVERY = flags.DEFINE_bool("every_checkpoint", False, "Play the earlier checkpoints that were kept as well.")
    _OUTPUT = flags.DEFINE_string("output", None, "Folder of the report, with one seller at most.")
    cli.run(main, compiles=True)
