"""Compiles a train step ahead of time for a TPU topology, without a TPU, and reports what it would cost.

  python -m launch.compile_check --config=experiments/configs/paper_30b.py --topology=v5p:4x4x4 \\
      --mesh=fsdp=4,expert=16 [--config.x.y=v]

The TPU compiler (package `libtpu`) compiles both players, the game, the reward and the update from abstract shapes. No
weights are needed: without a checkpoint the model has the preset's published size. The report covers memory per chip,
collectives, and a lower bound on time. A program that does not fit a chip is an error. With --matrix every topology is
compiled with every mesh, each in a process of its own, and the result is a table.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent import futures
from concurrent.futures import process
import dataclasses
import functools
import itertools
import json
import multiprocessing
import os
import pathlib
import re
import resource
import sys
import time
from typing import Any

if __name__ == "__main__":  # Before jax is imported: arrays live on the CPU, and libtpu must not look for a TPU.
    os.environ.update(JAX_PLATFORMS="cpu", TPU_SKIP_MDS_QUERY="1", ALLOW_MULTIPLE_LIBTPU_LOAD="1")
    # libtpu warns unless it is told of some machine; which one does not matter for topologies.
    os.environ.update(TPU_WORKER_HOSTNAMES="localhost", TPU_ACCELERATOR_TYPE="v5p-8")

from absl import flags
import jax
from jax.experimental import topologies
import jax.numpy as jnp
import tabulate

from experiments import cli
from negot_jax import config as schema
from negot_jax import progress
from negot_jax.game.types import SIDES
from negot_jax.models import presets, sharding, transformer
from negot_jax.models.sharding import MeshConfig
from negot_jax.rl.configs import LearnerConfig
from negot_jax.rl.tables import Side, Tables
from negot_jax.rl.train_step import Frozen, FrozenModel, Program, train_step
from negot_jax.rl.updates import TrainState
from negot_jax.roofline import estimate, hlo
from negot_jax.roofline.estimate import CHIPS
from negot_jax.run import Config, assembly, weights
from negot_jax.training import loop

if __name__ == "__main__":
    _CONFIG = cli.define_config("The run's configuration, as for experiments.train.")
    _TOPOLOGY = flags.DEFINE_list("topology", None, "Chips, such as v5p:4x4x4; several with --matrix.")
    _MESH = flags.DEFINE_multi_string(
        "mesh", None, "Mesh, such as fsdp=4,expert=16; by default the configuration's. Several with --matrix."
    )
    _MATRIX = flags.DEFINE_bool("matrix", False, "A table of every topology with every mesh.")
    _PROMPT = flags.DEFINE_integer("prompt_tokens", None, "Columns of a prompt; default: the longest.", lower_bound=1)
    _HLO = flags.DEFINE_string("hlo", None, "File for the HLO of the compiled program.")
    _OUTPUT = flags.DEFINE_string("output", None, "File for the report as JSON; with --matrix for a list of them.")
    flags.mark_flags_as_required(["config", "topology"])

GIB = 2**30
Mesh = jax.sharding.Mesh
Arguments = tuple[Program, TrainState, Tables, Frozen]


def chips(topology: str) -> list[jax.Device]:
    """The devices of a topology. ValueError: no such topology, no libtpu, or a chip that the roofline does not know."""
    # A host has four chips by default, and one of them is no whole host.
    single = {"chips_per_host_bounds": (1, 1, 1)} if topology.endswith(":1x1") else {}
    try:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=topology, **single).devices
    except Exception as error:  # The compiler's errors have no common type.
        raise ValueError(
            f"--topology={topology}: {str(error).splitlines()[0][:200]}. Use a kind and its shape in chips, such as "
            "v5p:4x4x4, v5e:1x1 or v6e:8x8; the compiler is in the package libtpu (pip install libtpu)."
        ) from error
    if (kind := devices[0].device_kind) not in (known := [name for name, chip in CHIPS.items() if chip.memory]):
        raise ValueError(f"--topology={topology}: {kind} is not among {', '.join(known)}, the chips known here.")
    return devices


def parse_mesh(value: str) -> MeshConfig:
    """The mesh that --mesh names, as in "fsdp=4,expert=16". ValueError: it is none."""
    sizes = dict(re.findall(r"(\w+)=(-?\d+)", value))
    if ",".join(f"{name}={size}" for name, size in sizes.items()) != value or not sizes.keys() <= set(sharding.AXES):
        axes = ", ".join(sharding.AXES)
        raise ValueError(f"--mesh={value} is not a mesh; write some of {axes}, as in fsdp=4,expert=16.")
    return MeshConfig(**{name: int(size) for name, size in sizes.items()})


def build(config: Config, devices: list[jax.Device], prompt: int | None = None) -> tuple[Mesh, Arguments]:
    """The mesh of a configuration on these chips, and the abstract arguments of `train_step`, with prompts of so many
    columns, by default the longest one's. Only sizes matter of the catalog: if it would have to be downloaded, the
    generated one stands in for it.
    """
    if config.catalog.name == "amazon_history_price" and config.catalog.data_dir is None:
        config = dataclasses.replace(config, catalog=dataclasses.replace(config.catalog, name="generated"))
    vocab_size = config.model.vocab_size or presets.preset(config.model.preset).vocab_size
    vocab_size = None if config.model.checkpoint else vocab_size
    parts = assembly.assemble(config, print_line=lambda line: None, devices=len(devices), vocab_size=vocab_size)
    if len(parts.programs) > 1:
        raise ValueError("learner.role='both': a check is of one learner. Check each side, 'buyer' and 'seller'.")
    program = parts.program

    def published(model: presets.ModelConfig) -> transformer.Weights:
        plain = dataclasses.replace(model, lora=presets.LoraConfig())
        return jax.tree.map(lambda x: x.astype(model.dtype), transformer.init(parts.key, plain))

    def start() -> tuple[TrainState, Frozen]:
        state = program.init_state(parts.key, transformer.init(parts.key, program.model))
        other = program.opponent if isinstance(program.opponent, FrozenModel) else None
        shares = program.model.lora.rank or (other and other.shared)
        base = published(program.model) if shares else None
        opponent = published(other.model) if other and not other.shared else None
        return state, Frozen(base, opponent, weights.reference(parts, state.weights))

    def widen(side: Side | None) -> Side | None:
        if side is None or prompt is None:
            return side
        if prompt < side.layout.prompt:
            raise ValueError(f"--prompt_tokens={prompt}, but the longest prompt has {side.layout.prompt} tokens.")
        wide = jnp.zeros((side.prompts_NxL.shape[0], prompt), jnp.int32)
        return side.replace(prompts_NxL=wide, layout=dataclasses.replace(side.layout, prompt=prompt))

    mesh, tables = sharding.make(config.mesh, devices), parts.train_tables
    wide = jax.eval_shape(lambda: tables.replace(buyer=widen(tables.buyer), seller=widen(tables.seller)))
    shapes = (*jax.eval_shape(start), wide)
    lay = lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)
    state, frozen, tables = jax.tree.map(lay, shapes, sharding.shardings(shapes, mesh))
    return mesh, (program, state, tables, frozen)


def too_much(text: str, mesh: Mapping[str, int], config: LearnerConfig) -> str:
    """The compiler's out-of-memory error in one line, with the way out."""
    sizes = ", ".join(f"{axis}={size}" for axis, size in mesh.items())
    amounts = re.findall(r"\d[\d.]*[KMGT]\b", text)
    needs = f"{amounts[0]}iB of the {amounts[1]}iB that a chip has" if len(amounts) > 1 else text.splitlines()[0][:200]
    return (
        f"on the mesh {sizes} the program needs {needs}. Raise learner.micro_batches ({config.micro_batches}) for "
        "smaller updates; raise mesh.tensor or mesh.expert for smaller shards of the weights, which players hold whole "
        f"along mesh.fsdp; lower learner.group ({config.group}) or learner.scenarios ({config.scenarios}) for smaller "
        "caches; or take more chips."
    )


def measure(mesh: Mesh, arguments: Arguments) -> tuple[dict[str, Any], str]:
    """Compiles a train step. Returns its report, as it is written to JSON, and its HLO. InputError: too little memory.

    Memory is per chip, in bytes; `seconds`, `processor_seconds` and `host_peak` are this machine's. `columns` are those
    of each language model's context, `collectives` as in `hlo.tally`, and `network` is the seconds that a chip needs at
    least to send their bytes, on all its links at once.
    """
    own, state, tables, frozen = arguments
    begun = time.monotonic(), time.process_time()
    try:
        with jax.set_mesh(mesh):
            binary = train_step.lower(*arguments).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise cli.InputError(too_much(str(error), mesh.shape, own.config)) from error
    seconds, processor_seconds = time.monotonic() - begun[0], time.process_time() - begun[1]
    memory, text, sizes = binary.memory_analysis(), binary.as_text(), dict(mesh.shape)
    chip = CHIPS[mesh.devices.flat[0].device_kind]
    whole = state.weights if not own.model.lora.rank else (state.weights, frozen.base)
    sides = {name: side for name in SIDES if (side := getattr(tables, name))}
    models = {own.role: own.model} | ({} if own.scripted else {1 - own.role: own.opponent.model})
    players = [(model, tables.side(role).layout) for role, model in models.items()]
    collectives = hlo.tally(text, sizes)
    return dict(
        mesh=sizes,
        columns={name: side.layout.columns for name, side in sides.items()},
        parameters=transformer.parameter_count(whole),
        trained=transformer.parameter_count(state.weights),
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        peak=memory.peak_memory_in_bytes,
        limit=int(chip.memory),
        seconds=seconds,
        processor_seconds=processor_seconds,
        host_peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        collectives=collectives,
        network=sum(total for _, _, total in collectives.values()) / chip.network,
        estimate=estimate.estimate(loop.workload(own), players, sizes, chip),
    ), text


def printed(report: Mapping[str, Any]) -> str:
    gib = lambda name: f"{report[name] / GIB:>8.2f} GiB"
    tally = report["collectives"].items()
    rows = [(name, count, f"{runs:,.0f}", f"{total / GIB:,.2f}") for name, (count, runs, total) in tally]
    headers = ("kind, and mesh axes", "in the program", "times", "GiB sent by a chip")
    align = ("left", "right", "right", "right")
    contexts = " and ".join(f"{columns:,} columns ({name})" for name, columns in report["columns"].items())
    return f"""\
{report["topology"]}, mesh {", ".join(f"{axis}={size}" for axis, size in report["mesh"].items())}
{report["parameters"]:,} parameters, of which {report["trained"]:,} are trained; contexts of {contexts}

memory per chip
  arguments    {gib("arguments")}
  temporaries  {gib("temporaries")}
  peak         {gib("peak")}   {100 * report["peak"] / report["limit"]:.0f} % of {gib("limit").strip()}
compiled in {report["seconds"]:.0f} s ({report["processor_seconds"]:.0f} s of processor time)
this machine's memory, at most {gib("host_peak").strip()}

collectives of an iteration, with every message as long as it may be
{tabulate.tabulate(rows, headers=headers, colalign=align, disable_numparse=True)}
on the network at least {report["network"]:.1f} s

{estimate.text(report["estimate"])}"""


def compiled(config: Config, topology: str, mesh: str | None, prompt: int | None) -> tuple[dict[str, Any], str]:
    """The report of a configuration on one topology and mesh, and the program's HLO. InputError: it cannot be."""
    with cli.checking_input():
        if mesh:
            config = dataclasses.replace(config, mesh=parse_mesh(mesh))
        built = build(config, chips(topology), prompt)
    report, text = measure(*built)
    return dict(topology=topology, **report), text


def matrix(
    compile_pair: Callable[[str, str], tuple[dict, str]], pairs: Iterable[tuple[str, str]], say: Callable[[str], None]
) -> tuple[str, list[dict]]:
    """A Markdown table of topologies and meshes, and the reports as JSON.

    Each pair is compiled in a process of its own, which takes its memory with it; one that fails has a row that says
    why.
    """
    rows, reports = [], []
    for topology, mesh in pairs:
        say(f"compiling for {topology}, {mesh}")
        try:
            with futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
                report, _ = alone.submit(compile_pair, topology, mesh).result()
        except (cli.InputError, jax.errors.JaxRuntimeError, process.BrokenProcessPool) as error:
            rows.append((topology, mesh, " ".join(str(error).split())))
            continue
        reports.append(report)
        gib = [f"{report[name] / GIB:.2f}" for name in ("arguments", "temporaries", "peak")]
        times = [report["estimate"][name] for name in estimate.PHASES] + [report["network"], report["seconds"]]
        whole = [f"{number:.0f}" for number in (100 * report["peak"] / report["limit"], *times)]
        rows.append((topology, mesh, *gib, *whole, f"{report['host_peak'] / GIB:.1f}"))
    headers = ["topology", "mesh", "arguments, GiB", "temporaries, GiB", "peak, GiB", "% of the limit"]
    headers += [*(f"{name}, s" for name in (*estimate.PHASES, "network")), "compiled in, s", "host, GiB"]
    return tabulate.tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True), reports


def main() -> None:
    with progress.phases() as say:
        text, report = check(say)
    print(text)
    if _OUTPUT.value:
        pathlib.Path(_OUTPUT.value).write_text(json.dumps(report, indent=2))


def check(say: Callable[[str], None]) -> tuple[str, dict | list[dict]]:
    """What the flags ask for: text to print, and JSON to write."""
    with cli.checking_input():
        meshes = _MESH.value or [None]
        for flag in (_HLO, _OUTPUT):
            if flag.value is not None and not pathlib.Path(flag.value).absolute().parent.is_dir():
                raise ValueError(f"--{flag.name}={flag.value}: there is no such folder to write to. Create it.")
            if flag.value is not None and pathlib.Path(flag.value).is_dir():
                raise ValueError(f"--{flag.name}={flag.value} is a folder. Name a file in it.")
        if not all(_TOPOLOGY.value or [""]):
            raise ValueError("--topology is empty. Name a kind and its shape in chips, such as v5p:4x4x4.")
        if _MATRIX.value and not _MESH.value:
            raise ValueError("--matrix needs meshes: --mesh=fsdp=4,expert=16 --mesh=fsdp=64")
        if _MATRIX.value and _HLO.value:
            raise ValueError(f"--hlo={_HLO.value} is of one program: leave it out, or leave --matrix out.")
        if len(_TOPOLOGY.value) * len(meshes) > 1 and not _MATRIX.value:
            raise ValueError("several topologies or meshes make a table: add --matrix.")
        config = schema.replace(Config(), _CONFIG.value)
    compile_pair = functools.partial(compiled, config, prompt=_PROMPT.value)
    if _MATRIX.value:
        return matrix(compile_pair, itertools.product(_TOPOLOGY.value, meshes), say)
    say(f"compiling for {_TOPOLOGY.value[0]}")
    report, text = compile_pair(_TOPOLOGY.value[0], meshes[0])
    if _HLO.value:
        pathlib.Path(_HLO.value).write_text(text)
    return printed(report), report


if __name__ == "__main__":
    cli.run(main, Config)
