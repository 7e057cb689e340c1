"""You bargain, in the terminal, with the trained buyer or with its seller.

  python -m experiments.play --workdir=DIR [--side=buyer|seller] [--seller=SELLER] [--product=N]

As the seller you face the trained buyer; as the buyer, the seller that it was trained against, or --seller. At the end
your score stands beside the best response's, or the scripted seller's, in the same scenario.
"""

from absl import flags

from experiments import cli
from negot_jax import run
from negot_jax.evaluation.episodes import Episode
from negot_jax.game.money import dollars
from negot_jax.game.types import BUYER, SELLER
from negot_jax.run import match


def main() -> None:
    with cli.checking_input():
        if _SIDE.value == "seller" and _SELLER.value:
            raise ValueError(f"--seller={_SELLER.value} does not go with --side=seller: you are the seller.")
        if _SELLER.value.startswith("api:"):
            raise ValueError(f"--seller={_SELLER.value}: a served model is met by experiments.match --buyer=person.")
        workdir, overrides = str(run.workdir(_WORKDIR.value)), _overrides() | {"evaluation.episodes": 1}
        if _SIDE.value == "buyer":
            game = match.prepare("person", _SELLER.value, overrides, product=_PRODUCT.value, workdir=workdir)
        else:
            game = match.prepare(f"run:{workdir}", "person", overrides, product=_PRODUCT.value)
    (episode,) = game.play({}).episodes
    if not episode.complete:
        raise cli.InputError("the game is not finished: you left.")
    print(f"\n{told(episode, SELLER if _SIDE.value == 'seller' else BUYER)}")
    print(comparison(game))


def told(episode: Episode, role: int) -> str:
    """How the game ended, for a person of a role."""
    deal = f"deal at {dollars(episode.deal_price)}" if episode.deal_price is not None else "no deal"
    end = f"{deal} ({episode.end.name.lower().replace('_', ' ')})"
    secrets = f"budget {dollars(episode.budget)}, cost {dollars(episode.cost)}"
    score = episode.reward if role == BUYER else match.sold(episode)
    return f"{end}; {secrets}\nyour score: {score:+.3f} of the surplus"


def comparison(game: match.Match) -> str:
    """The score of who could have sat in the person's place, in the same scenario."""
    role = BUYER if game.names[BUYER].kind == "person" else SELLER
    reason = game.unsolvable() if role == BUYER else None
    if reason is not None:
        return f"no best response to compare with: {reason}"
    name = "best_response" if role == BUYER else game.parts.config.game.seller
    (episode,) = game.instead(role, name).play({}).episodes
    score = episode.reward if role == BUYER else match.sold(episode)
    return f"{name.replace('_', ' ')} in your place: {score:+.3f}"


if __name__ == "__main__":
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run made by experiments.train.", required=True)
    _overrides = cli.define_overrides(run.Config, "Fields of the run to override: --config.x.y=v.")
    _SIDE = flags.DEFINE_enum("side", "buyer", ["buyer", "seller"], "The side that you play.")
    _SELLER = flags.DEFINE_string("seller", "", "If you buy: another seller, named as in experiments.match.")
    _PRODUCT = flags.DEFINE_integer("product", 1, "Which of the held-out products, from 1.")
    cli.run(main, run.Config, compiles=True)
