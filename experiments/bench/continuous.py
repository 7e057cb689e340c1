"""What continuous batching would save of decoding, by simulation on the message lengths of a trained run.

  python -m experiments.bench.continuous --workdir=RUN [--rows=512]

Today all rows decode a turn's messages together, until the longest ends. A continuously batched sampler lets each row
go on by itself, and reuses the slot of a finished episode. A step costs the same in all of them.
"""

import json

from absl import flags
import jax
import numpy as np

from experiments import cli
from negot_jax import run
from negot_jax.rl import rollout
from negot_jax.run import weights

_WAITING = 4  # Batches of episodes that are queued, where slots are reused.


def message_lengths(buyer: run.Run, episodes: int) -> np.ndarray:
    """Sampled tokens of each message of the first learner, int[episodes, turns], as it plays after its training."""
    parts = buyer.parts
    program, group = parts.program, parts.config.learner.group
    with jax.set_mesh(parts.mesh):
        saved = weights.restore(parts, buyer.workdir, buyer.run_id)

        @jax.jit
        def play(key, trained, frozen, tables):
            scenarios = rollout.sample_scenarios(key, tables, -(-episodes // group))
            players = program.players(trained, frozen, tables)
            return rollout.rollout(key, tables, scenarios, group, *players).dialogue(program.role).sampled_BxKxW

        frozen = weights.against(parts, saved, program.role)
        sampled = play(jax.random.key(0), saved.trained(program.role), frozen, parts.train_tables)
        return np.asarray(sampled.sum(axis=-1))


def steps(lengths_BxK: np.ndarray, slots: int) -> dict[str, int]:
    """Decoding steps of so many slots for all episodes, whose number the slots divide."""
    batches = lengths_BxK.reshape(-1, slots, lengths_BxK.shape[1])
    busy = np.zeros(slots, int)
    for total in lengths_BxK.sum(axis=1):
        busy[busy.argmin()] += total
    apart = int(batches.sum(axis=2).max(axis=1).sum())
    return {"together": int(batches.max(axis=1).sum()), "each row by itself": apart, "slots reused": int(busy.max())}


def main() -> None:
    with cli.checking_input():
        buyer = run.open(_WORKDIR.value)
        buyer.parts  # noqa: B018, built now, for its errors.
    measured = message_lengths(buyer, 512)
    rows = np.random.default_rng(0).integers(len(measured), size=_WAITING * _ROWS.value)
    taken = steps(measured[rows], _ROWS.value)
    tokens, spoken = int(measured[rows].sum()), measured[measured > 0]
    figures = {
        "tokens of a message": [int(x) for x in np.percentile(spoken, (5, 50, 95))],
        "messages of an episode": float((measured > 0).sum(axis=1).mean()),
        "steps": taken,
        "share of row-steps that produce a token": {
            way: round(tokens / (_ROWS.value * count), 3) for way, count in taken.items()
        },
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a trained run.", required=True)
    _ROWS = flags.DEFINE_integer("rows", 512, "Episodes that decode at once.", lower_bound=1, upper_bound=2**20)
    cli.run(main)
