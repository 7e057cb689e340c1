"""All benchmarks: `make bench`.

  python -m experiments.bench.report [--output=runs/bench]

Writes bench.json, bench.md and scaling.png. Every measurement is a process of its own, one at a time.
"""

import functools
import json
import pathlib
import shlex

from absl import flags
from matplotlib.figure import Figure
import tabulate

from experiments import cli
from experiments.bench import timing
from negot_jax.run import folder

_PEER = pathlib.Path(__file__).with_name("peer_transformers.py")
# What grows, by the field that says it, all else as in `iteration.SMALL`; {} is that work itself.
_GROWS = {
    "episodes": [(64, {"learner.scenarios": 8}), (256, {}), *((8 * n, {"learner.scenarios": n}) for n in (128, 512))],
    "turns": [(3, {}), *((turns, {"game.turns": turns}) for turns in (5, 8))],
    "tokens of a message": [(24, {}), *((cap, {"language.message_tokens": cap}) for cap in (48, 96))],
    "width of the model": [
        (64, {}),
        *((width, {"model.width": width, "model.heads": width // 32, "model.mlp": 4 * width}) for width in (128, 256)),
    ],
    "devices": [(1, {}), *((count, {"mesh.fsdp": count}) for count in (2, 8))],
}


def iteration(seller: str) -> dict:
    """The defined work, beside the peer."""
    peer = shlex.join([str(_PEER), f"--seller={seller}"])
    return timing.run_json("-m", "experiments.bench.iteration", f"--seller={seller}", f"--peer={peer}", "--json")


def scaling() -> dict[str, list[dict]]:
    """Seconds and GiB of an iteration of the smaller work, as one of its sizes grows."""
    command = ("-m", "experiments.bench.iteration", "--small", "--repeats=2", "--json")
    measured = functools.cache(functools.partial(timing.run_json, *command))

    def point(name: str, size: int, fields: dict) -> dict:
        given = [f"--set={field}={value}" for field, value in fields.items()]
        return {"size": size} | measured(*given, devices=size if name == "devices" else 1)

    return {name: [point(name, *own) for own in sizes] for name, sizes in _GROWS.items()}


def plot(curves: dict[str, list[dict]], path: pathlib.Path) -> None:
    """Time above memory, a column for each size."""
    figure = Figure(figsize=(3 * len(curves), 5), layout="constrained")
    axes = figure.subplots(2, len(curves), sharex="col", squeeze=False)
    for (name, points), (time_axes, memory_axes) in zip(curves.items(), axes.T, strict=True):
        sizes = [point["size"] for point in points]
        medians, lows, highs = ([point["iteration_s"][key] for point in points] for key in ("median", "min", "max"))
        time_axes.plot(sizes, medians, "o-")
        time_axes.fill_between(sizes, lows, highs, alpha=0.3)
        memory_axes.plot(sizes, [point["peak_gib"] for point in points], "o-")
        time_axes.loglog()
        memory_axes.set(xscale="log", xlabel=name)
        memory_axes.set_ylim(bottom=0)
    axes[0, 0].set_ylabel("seconds an iteration")
    axes[1, 0].set_ylabel("GiB, peak of the process")
    figure.savefig(path, dpi=120)


def markdown(found: dict) -> str:
    """The report as text."""
    rows = found["game"]["rows"]
    rates = [timing.spread(row["episodes_per_s"], 0) for row in rows]
    game = [(row["seller"], row["batch"], rate, row["first_call_s"]) for row, rate in zip(rows, rates, strict=True)]
    works = []
    for seller, ours in found["iteration"].items():
        times = lambda of, whole: [timing.spread(of[key]) for key in (whole, "rollout_s", "update_s")]
        ratio = (f"{ours['peer_over_ours']:.2f}", "", f"compiled in {ours['compile_s']:.1f} s")
        works += [
            (seller, ours["peer"], *times(ours["peer_s"], "iter_s_median")),
            (seller, "negot_jax", *times(ours, "iteration_s")),
            (seller, "peer / negot_jax", *ratio),
        ]
    grown = [
        (name, point["size"], timing.spread(point["iteration_s"]), point["compile_s"], point["peak_gib"])
        for name, points in found["scaling"].items()
        for point in points
    ]
    table = lambda rows, *headers: tabulate.tabulate(rows, headers, tablefmt="github", floatfmt=".2f")
    machine = ", ".join(f"{name} {value}" for name, value in found["game"]["machine"].items())
    parts = [
        f"# Benchmarks\n\n{machine}. Medians (least-most).",
        "## The game alone",
        table(game, "seller", "episodes a call", "episodes/s", "first call, s"),
        "## One iteration, seconds",
        table(works, "seller", "program", "iteration", "rollout", "update"),
        "## Scaling",
        table(grown, "what grows", "size", "iteration, s", "compilation, s", "peak, GiB"),
        "![Time and memory of an iteration](scaling.png)",
        "## The quickstart, seconds",
        table(found["quickstart"].items(), "part", "seconds"),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    with cli.checking_input():
        output = folder.local_folder(_OUTPUT.value, "--output")
    output.mkdir(parents=True, exist_ok=True)
    measurements = {
        "game": lambda: timing.run_json("-m", "experiments.bench.game", "--json"),
        "iteration": lambda: {seller: iteration(seller) for seller in ("scripted", "lm")},
        "scaling": scaling,
        "quickstart": lambda: timing.run_json("-m", "experiments.bench.quickstart"),
    }
    found = {}
    for name, measure in measurements.items():
        found[name] = measure()
        (output / "bench.json").write_text(json.dumps(found, indent=1))  # Should the next one fail.
    plot(found["scaling"], output / "scaling.png")
    (output / "bench.md").write_text(markdown(found))
    print(markdown(found))


if __name__ == "__main__":
    _OUTPUT = flags.DEFINE_string("output", "runs/bench", "Folder of the report.")
    cli.run(main)
