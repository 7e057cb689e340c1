"""One iteration of reinforcement learning, on the work that `work` defines; beside a peer's, if one is named.

  python -m experiments.bench.iteration [--seller=scripted|lm] [--repeats=5] [--peer=SCRIPT] [--set=FIELD=VALUE ...]

Compilation is timed apart. The rollout is timed once more on its own, and the update is what an iteration takes beyond
it. A peer is a Python script, such as experiments/bench/peer_transformers.py, whose last line is JSON with its seconds:
iter_s_median, rollout_s and update_s. It runs before and after ours, so that a drift of the machine shows.
"""

import functools
import json
import time

from absl import flags
import jax

from experiments import cli
from experiments.bench import timing, work
from negot_jax.rl import rollout, train_step
from negot_jax.run import assembly
from negot_jax.run.config import Config, override


def measure(config: Config, repeats: int) -> dict:
    """Seconds of compilation and of an iteration, and the work that was done; on the configuration's mesh."""
    parts = assembly.assemble(config, print_line=lambda line: None)
    with jax.set_mesh(parts.mesh):
        return _measure(parts, repeats)


def _measure(parts: assembly.Parts, repeats: int) -> dict:
    config, (program, state, tables, frozen) = parts.config, work.build(parts)

    @jax.jit
    def play(key, trained, tables, frozen):
        scenarios = rollout.sample_scenarios(key, tables, config.learner.scenarios)
        return rollout.rollout(key, tables, scenarios, config.learner.group, *program.players(trained, frozen, tables))

    start = time.perf_counter()
    iterate = train_step.train_step.lower(program, state, tables, frozen).compile()
    compile_s = time.perf_counter() - start
    played = play(jax.random.key(1), state.weights, tables, frozen)
    buyer, seller = (played.dialogue(role) for role in (0, 1))

    def iteration() -> float:
        nonlocal state
        start = time.perf_counter()
        state, *_ = jax.block_until_ready(iterate(state, tables, frozen))
        return time.perf_counter() - start

    only_rollout = lambda: timing.seconds(lambda: play(jax.random.key(2), state.weights, tables, frozen))
    iteration()
    # In turn, so that a drift of the machine meets both alike.
    iterations, rollouts = zip(*[(iteration(), only_rollout()) for _ in range(repeats)], strict=True)
    memory = iterate.memory_analysis()
    return {
        "iteration_s": timing.summary(iterations),
        "rollout_s": timing.summary(rollouts),
        "update_s": timing.summary([whole - part for whole, part in zip(iterations, rollouts, strict=True)]),
        "compile_s": compile_s,
        "buyer_tokens": int(buyer.sampled_BxKxW.sum()),
        "seller_tokens": int(seller.sampled_BxKxW.sum()) if seller else 0,
        "context": tables.buyer.layout.columns,
        "temporaries_gib": memory.temp_size_in_bytes / 2**30,
        "peak_gib": timing.peak_gib(),
    }


def with_peer(measure_ours, peer: str | None) -> dict:
    """Our figures, and the peer's from before and after them."""
    if not peer:
        return measure_ours()
    run_peer = functools.partial(timing.run_json, *peer.split())
    before, figures, after = run_peer(), measure_ours(), run_peer()
    names = ("iter_s_median", "rollout_s", "update_s")
    theirs = {name: timing.summary([before[name], after[name]]) for name in names}
    ratio = theirs["iter_s_median"]["median"] / figures["iteration_s"]["median"]
    return figures | {"peer": before["peer"], "peer_s": theirs, "peer_over_ours": ratio}


def _field(given: str) -> tuple[str, object]:
    """FIELD=VALUE, the value as JSON."""
    name, equals, value = given.partition("=")
    try:
        return name, json.loads(value)
    except ValueError as error:
        raise ValueError(f"--set={given} is not FIELD=VALUE with a JSON value, such as learner.scenarios=64") from error


def main() -> None:
    with cli.checking_input():
        fields = dict(map(_field, _SET.value))
        config = override(work.config(_SELLER.value, _SMALL.value), fields)
    figures = with_peer(functools.partial(measure, config, _REPEATS.value), _PEER.value)
    figures |= {"seller": _SELLER.value, "machine": timing.machine()}
    if _JSON.value:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:16} {timing.spread(value) if isinstance(value, dict) and 'median' in value else value}")


if __name__ == "__main__":
    _SELLER = flags.DEFINE_enum("seller", "scripted", ["scripted", "lm"], "Who sells.")
    _REPEATS = flags.DEFINE_integer("repeats", 5, "Timed iterations.", lower_bound=1)
    _PEER = flags.DEFINE_string("peer", None, "A peer's script and its arguments.")
    _SET = flags.DEFINE_multi_string("set", [], "Fields of the configuration to set otherwise, learner.scenarios=64.")
    _SMALL = flags.DEFINE_bool("small", False, "The smaller work that the scaling curves vary.")
    _JSON = flags.DEFINE_bool("json", False, "One line of JSON.")
    cli.run(main)
