"""One iteration of reinforcement learning, beside a peer's, if one is named; every system does the same work.

  python -m experiments.bench.iteration [--seller=scripted|lm] [--repeats=5] [--peer=SCRIPT] [--set=FIELD=VALUE ...]

A Qwen3-style model of random float32 weights: 4 layers of width 128, 4 heads of size 32, 2 of keys and values, MLP 512,
vocabulary 576; or what --set says. 128 episodes, 16 scenarios in groups of 8. 6 turns of 24 sampled tokens, contexts of
328; no message ends early, and no game before its last turn. Then one AdamW update over all, in micro-batches of 16.

Compilation is timed apart. The rollout is timed once more on its own, and the update is what an iteration takes beyond
it. A peer is a Python script, such as experiments/bench/peer_transformers.py, whose last line is JSON with its seconds:
iter_s_median, rollout_s and update_s. It runs before and after ours, so that a drift of the machine shows.
"""

from collections.abc import Callable
import dataclasses
import functools
import json
import shlex
import time

from absl import flags
import jax
import jax.numpy as jnp

from experiments import cli
from experiments.bench import timing
from negot_jax.game.types import BUYER
from negot_jax.language.automaton import Tag
from negot_jax.models import presets, sharding
from negot_jax.rl import rollout
from negot_jax.rl.tables import Side, Tables
from negot_jax.rl.train_step import Frozen, Program, train_step
from negot_jax.rl.updates import TrainState
from negot_jax.roofline import estimate
from negot_jax.run import assembly, weights
from negot_jax.run.config import Config, override
from negot_jax.training import loop

_VOCABULARY = 576
CONFIG = {
    "catalog.prices": "normalized",
    "game.seller": "neutral(tick=100)",
    "language": {"vocab_size": _VOCABULARY, "prompts": "compact", "text_tokens": 8, "message_tokens": 24},
    "model": {"layers": 4, "width": 128, "heads": 4, "kv_heads": 2, "head_dim": 32, "mlp": 512},
    "learner": {"scenarios": 16, "group": 8, "micro_batches": 8},
}
LM_SELLER = {"seller": {"model": "own", "message_tokens": 24}}
# Under a minute a point for everything that grows; what `report.scaling` varies one field of.
SMALL = {
    "game.turns": 3,
    "model": {"layers": 2, "width": 64, "heads": 2, "kv_heads": 1, "head_dim": 32, "mlp": 256},
    "learner": {"scenarios": 32, "group": 8, "micro_batches": 8},
}


def build(parts: assembly.Parts, context: int) -> tuple[Program, TrainState, Tables, Frozen]:
    """The arguments of `train_step`, on the current mesh, with tables under which every episode has its full length.

    context: the least columns of the buyer's context.
    """
    whole, seller = sharding.shard((weights.init_learner(parts), weights.init_opponent(parts, BUYER)))
    state = sharding.shard(parts.program.init_state(jax.random.fold_in(parts.key, 2), whole))
    # As a published checkpoint's, they are of the model's own type.
    base = jax.tree.map(lambda x: x.astype(parts.program.model.dtype), weights.base(parts, whole))
    tables, steps = parts.train_tables, parts.train_tables.grammar.steps_SxK
    # A language in which no token ends a message and every message rejects.
    rejecting = tables.grammar.replace(steps_SxK=steps._replace(tag=jnp.full_like(steps.tag, Tag.REJECT)))
    tables = tables.replace(grammar=rejecting, buyer=_filled(tables.buyer, context), end=-1)
    return parts.program, state, sharding.shard(tables), Frozen(base, seller)


def _filled(side: Side, context: int) -> Side:
    """The side with prompts of equal length, no shorter than a context of so many columns needs."""
    prompt = max(side.layout.prompt, side.layout.prompt + context - side.layout.columns)
    filling = jnp.resize(side.prompts_NxL[:, 1:2], (side.prompts_NxL.shape[0], prompt))
    kept = jnp.arange(prompt) < side.prompt_lengths_N[:, None]
    rows = jnp.pad(side.prompts_NxL, ((0, 0), (0, prompt - side.layout.prompt)))
    return side.replace(
        prompts_NxL=jnp.where(kept, rows, filling),
        prompt_lengths_N=jnp.full_like(side.prompt_lengths_N, prompt),
        layout=dataclasses.replace(side.layout, prompt=prompt),
    )


def preset(name: str) -> presets.ModelConfig:
    """A preset as it is measured: one without a vocabulary of its own has that of the default work."""
    model = presets.preset(name)
    return dataclasses.replace(model, vocab_size=model.vocab_size or _VOCABULARY)


def config_of(seller: str, small: bool = False) -> Config:
    """The configuration of the work, or of the smaller one."""
    made = override(Config(), CONFIG | (LM_SELLER if seller == "lm" else {}))
    return override(made, SMALL) if small else made


def measure(parts: assembly.Parts, repeats: int, context: int = 328, apart: bool = True) -> dict:
    """Seconds of compilation and of an iteration, and the work that was done; on the run's mesh.

    apart: whether to time the rollout, and so the update, on its own as well.
    """
    with jax.set_mesh(parts.mesh):
        return _measure(parts, repeats, context, apart)


def _measure(parts: assembly.Parts, repeats: int, context: int, apart: bool) -> dict:
    config, (program, state, tables, frozen) = parts.config, build(parts, context)

    @jax.jit
    def play(key, trained, tables, frozen):
        scenarios = rollout.sample_scenarios(key, tables, config.learner.scenarios)
        return rollout.rollout(key, tables, scenarios, config.learner.group, *program.players(trained, frozen, tables))

    start = time.perf_counter()
    iterate = train_step.lower(program, state, tables, frozen).compile()
    compile_s = time.perf_counter() - start

    def iteration() -> float:
        nonlocal state
        start = time.perf_counter()
        state, *_ = jax.block_until_ready(iterate(state, tables, frozen))
        return time.perf_counter() - start

    only_rollout = lambda: timing.seconds(lambda: play(jax.random.key(2), state.weights, tables, frozen))
    iterations, rollouts = [iteration()], [only_rollout()] if apart else []
    for _ in range(repeats):  # In turn, so that a drift of the machine meets both alike.
        iterations.append(iteration())
        rollouts += [only_rollout()] if apart else []
    memory = iterate.memory_analysis()
    figures = {
        "iteration_s": timing.summary(iterations[1:]),
        "compile_s": compile_s,
        "context": tables.buyer.layout.columns,
        "temporaries_gib": memory.temp_size_in_bytes / 2**30,
        "peak_gib": timing.peak_gib(),
        "device_peak_gib": timing.device_peak_gib(),
    }
    if apart:
        played = play(jax.random.key(1), state.weights, tables, frozen)
        figures |= _parts(program, played, figures["context"], iterations[1:], rollouts[1:])
    return figures


def _parts(program: Program, played: rollout.Trajectory, context: int, iterations: list, rollouts: list) -> dict:
    """The seconds of rollout and update, and what was sampled."""
    buyer, seller = (played.dialogue(role) for role in (0, 1))
    updates = [whole - part for whole, part in zip(iterations, rollouts, strict=True)]
    work, sampled = loop.workload(program), int(buyer.sampled_BxKxW.sum())
    flops = estimate.per_update(work, work.episodes * context, sampled) / jax.device_count()
    chip = estimate.CHIPS.get(jax.devices()[0].device_kind)
    return {
        "rollout_s": timing.summary(rollouts),
        "update_s": timing.summary(updates),
        "update_mfu": chip and timing.summary([flops / seconds / chip.flops for seconds in updates]),
        "buyer_tokens": sampled,
        "seller_tokens": int(seller.sampled_BxKxW.sum()) if seller else 0,
    }


def with_peer(measure_ours: Callable[[], dict], peer: list[str]) -> dict:
    """Our figures, and the peer's from before and after them; its command is empty for none."""
    if not peer:
        return measure_ours()
    names = ("iter_s_median", "rollout_s", "update_s")
    run_peer = functools.partial(timing.run_json, *peer, wanted=("peer", *names))
    before, figures, after = run_peer(), measure_ours(), run_peer()
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
        config = override(config_of(_SELLER.value, _SMALL.value), fields)
        vocab_size = preset(config.model.preset).vocab_size
        if config.learner.role != "buyer" or config.algorithm.kl != "none":
            raise ValueError("--set: the work is a buyer's, without KL. Leave learner.role and algorithm.kl out.")
        parts = assembly.assemble(config, print_line=lambda line: None, vocab_size=vocab_size)
        peer = [] if _PEER.value is None else shlex.split(_PEER.value)
        if peer == [] and _PEER.value is not None:
            raise ValueError("--peer is empty. Name a script and its arguments, or leave it out.")
    machine = timing.machine()  # Before the load that this makes.
    figures = with_peer(functools.partial(measure, parts, _REPEATS.value, _CONTEXT.value, not _SMALL.value), peer)
    timing.show(figures | {"seller": config.seller.model, "machine": machine}, _JSON.value)


if __name__ == "__main__":
    _SELLER = flags.DEFINE_enum("seller", "scripted", ["scripted", "lm"], "Who sells.")
    _REPEATS = flags.DEFINE_integer("repeats", 5, "Timed iterations.", lower_bound=1)
    _PEER = flags.DEFINE_string("peer", None, "A peer's script and its arguments.")
    _SET = flags.DEFINE_multi_string("set", [], "Fields of the configuration to set otherwise, learner.scenarios=64.")
    _SMALL = flags.DEFINE_bool("small", False, "The smaller work that the scaling curves vary, as a whole.")
    _CONTEXT = flags.DEFINE_integer("context", 328, "Columns of the buyer's context, at least.", lower_bound=1)
    _JSON = flags.DEFINE_bool("json", False, "One line of JSON.")
    cli.run(main)
