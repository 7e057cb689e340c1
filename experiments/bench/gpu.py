"""Benchmarks on one GPU: decoding, the update, an iteration beside TRL's, and thousands of episodes at once.

  pip install -e .[peers]
  python -m experiments.bench.gpu [--model=qwen3-0.6b ...] [--peer=experiments/bench/peer_trl.py] [--output=runs/gpu]

For each model, of random bfloat16 weights: `experiments.bench.decoding` on rows whose caches are full, and
`experiments.bench.iteration` with adapters, 6 turns of 64 sampled tokens in contexts of 640, against the scripted
seller; before and after it, the peer with as many tokens. Then the default work of `iteration` with thousands of
episodes. Writes gpu.json and gpu.md. Every measurement is a process of its own, so that each has the memory to itself.
"""

import functools
import json
import os
import shlex

from absl import flags
import tabulate

from experiments import cli
from experiments.bench import iteration, timing
from negot_jax.models import presets
from negot_jax.run import folder

_TURNS, _MESSAGE, _CONTEXT, _GROUP, _ROWS, _RANK = 6, 64, 640, 8, 8, 16  # _ROWS: of a micro-batch.


def of_model(name: str, episodes: int, peer: list[str], repeats: int) -> dict:
    """Decoding and an iteration of a preset."""
    sizes = ("layers", "width", "heads", "kv_heads", "head_dim", "mlp")
    fields = {f"model.{size}": None for size in sizes}  # The preset's, not those of the default work.
    fields |= {"model.preset": name, "model.remat": "full", "model.lora.rank": _RANK}
    fields |= {"game.turns": _TURNS, "language.message_tokens": _MESSAGE}
    fields |= {"learner.scenarios": episodes // _GROUP, "learner.group": _GROUP}
    fields |= {"learner.micro_batches": episodes // _ROWS}
    given = [f"--set={field}={json.dumps(value)}" for field, value in fields.items()]
    common = (f"--repeats={repeats}", "--json")
    ours = functools.partial(
        timing.run_json, "-m", "experiments.bench.iteration", f"--context={_CONTEXT}", *given, *common
    )
    model, sampled = iteration.preset(name), _TURNS * _MESSAGE
    work = {size: getattr(model, size) for size in (*sizes, "vocab_size")}
    work |= {"prompt": _CONTEXT - sampled, "completion": sampled}
    work |= {"scenarios": episodes // _GROUP, "group": _GROUP, "micro_batch": _ROWS, "rank": _RANK}
    told = [*peer, f"--work={json.dumps(work)}", f"--repeats={repeats}"] if peer else []
    sized = (f"--model={name}", f"--rows={episodes}", f"--columns={_CONTEXT}")
    return {
        "decoding": timing.run_json("-m", "experiments.bench.decoding", *sized, *common),
        "iteration": iteration.with_peer(ours, told),
    }


def at_once(episodes: int, repeats: int) -> dict:
    """An iteration of the default work with so many episodes."""
    fields = (f"--set=learner.scenarios={episodes // _GROUP}", f"--set=learner.group={_GROUP}")
    return timing.run_json("-m", "experiments.bench.iteration", *fields, f"--repeats={repeats}", "--json")


def markdown(found: dict) -> str:
    """The report as text."""
    percent = lambda share: timing.spread({key: 100 * value for key, value in share.items()}, 0) if share else "unknown"
    gib = lambda figures: figures["device_peak_gib"] or figures["peak_gib"]
    spread, decoded, iterated = timing.spread, [], []
    for name, figures in found["models"].items():
        ours, alone = figures["iteration"], figures["decoding"]
        rate = (spread(alone["tokens_per_s"], 0), percent(alone["bandwidth_share"]))
        decoded.append((name, alone["rows"], alone["columns"], *rate))
        times = [spread(ours[key]) for key in ("iteration_s", "rollout_s", "update_s")]
        iterated.append((name, "negot_jax", *times, percent(ours["update_mfu"]), f"{gib(ours):.1f}"))
        if "peer" in ours:
            times = [spread(ours["peer_s"][key]) for key in ("iter_s_median", "rollout_s", "update_s")]
            iterated += [(name, ours["peer"], *times), (name, "peer / negot_jax", f"{ours['peer_over_ours']:.2f}")]
    table = lambda rows, *headers: tabulate.tabulate(rows, headers, tablefmt="github", disable_numparse=True)
    many = found["at_once"]
    machine = ", ".join(f"{name} {value}" for name, value in many["machine"].items())
    parts = [
        f"# One accelerator\n\n{machine}. Medians (least-most).",
        "## Decoding",
        table(decoded, "model", "rows", "columns", "tokens/s", "% of the memory's bandwidth"),
        f"## An iteration of {found['episodes']} episodes, seconds",
        table(iterated, "model", "program", "iteration", "rollout", "update", "update's MFU, %", "peak, GiB"),
        "## A model of 1.06M parameters",
        f"{found['many']:,} episodes at once: {spread(many['iteration_s'])} s an iteration, rollout "
        f"{spread(many['rollout_s'])} s, {gib(many):.1f} GiB at most.",
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    with cli.checking_input():
        output = folder.local_folder(_OUTPUT.value, "--output")
        peer = shlex.split(_PEER.value or "")
        for name in _MODELS.value:
            model = presets.preset(name)
            if peer and not (name.startswith("qwen3") and model.tied_embedding and not model.experts):
                raise ValueError(f"--model={name}: a peer makes dense, tied Qwen3 models alone. Leave --peer out.")
        for flag in (_EPISODES, _MANY):
            if flag.value % _GROUP:
                raise ValueError(f"--{flag.name}={flag.value} do not divide into groups of {_GROUP}. Take a multiple.")
    output.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.92")  # Of the card, for the processes that measure.
    found = {"episodes": _EPISODES.value, "many": _MANY.value, "models": {}}
    found["at_once"] = at_once(_MANY.value, _REPEATS.value)
    for name in _MODELS.value:
        found["models"][name] = of_model(name, _EPISODES.value, peer, _REPEATS.value)
        (output / "gpu.json").write_text(json.dumps(found, indent=1))  # Should the next one run out of memory.
    (output / "gpu.md").write_text(markdown(found))
    print(markdown(found))


if __name__ == "__main__":
    _MODELS = flags.DEFINE_multi_string("model", ["qwen3-0.6b", "qwen3-4b"], "Presets.")
    _EPISODES = flags.DEFINE_integer("episodes", 256, "Episodes of a preset's iteration.", lower_bound=_GROUP)
    _MANY = flags.DEFINE_integer("many", 4096, "Episodes of the small model at once.", lower_bound=_GROUP)
    _REPEATS = flags.DEFINE_integer("repeats", 3, "Timed iterations of each.", lower_bound=1)
    _PEER = flags.DEFINE_string("peer", None, "A peer's script and its arguments.")
    _OUTPUT = flags.DEFINE_string("output", "runs/gpu", "Folder of the report.")
    cli.run(main)
