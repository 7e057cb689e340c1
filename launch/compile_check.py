"""Compiles a whole iteration for TPUs that are not there, and says what it would take of them.

  python -m launch.compile_check --config=experiments/configs/paper_30b.py --topology=v5p:4x4x4 \\
      --mesh=fsdp=4,expert=16 [--config.x.y=v]

Both players, the game, the reward and the update are compiled by the TPU compiler (the package `libtpu`) from the
shapes of arrays alone, on a machine without a TPU and without weights: without a checkpoint the model has the preset's
published size. See `measure` for what is printed. With --matrix every topology is compiled with every mesh, each in a
process of its own, and a table is printed. What needs more memory than a chip has is an error.
"""

from collections.abc import Mapping
import dataclasses
import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import time

if __name__ == "__main__":  # Before jax is imported: arrays are on the CPU, and libtpu must not look for a TPU.
    os.environ.update(JAX_PLATFORMS="cpu", TPU_SKIP_MDS_QUERY="1", ALLOW_MULTIPLE_LIBTPU_LOAD="1")
    # It complains where it finds no machine; which one it is told of changes no topology.
    os.environ.update(TPU_WORKER_HOSTNAMES="localhost", TPU_ACCELERATOR_TYPE="v5p-8")

from absl import flags
import jax
from jax.experimental import topologies
import jax.numpy as jnp
from ml_collections import config_flags
import tabulate

from experiments import cli, setup
from launch import hlo, roofline
from negot_jax import config as door
from negot_jax.models import presets, sharding, transformer
from negot_jax.rl.configs import LearnerConfig
from negot_jax.rl.tables import Tables
from negot_jax.rl.train_step import Frozen, Program, train_step
from negot_jax.rl.updates import TrainState

if __name__ == "__main__":
    _CONFIG = config_flags.DEFINE_config_file("config", None, "The run's configuration, as of experiments.train.")
    _TOPOLOGY = flags.DEFINE_list("topology", None, "Chips, such as v5p:4x4x4; several with --matrix.")
    _MESH = flags.DEFINE_multi_string(
        "mesh", None, "Mesh, such as fsdp=4,expert=16; by default the configuration's. Several with --matrix."
    )
    _MATRIX = flags.DEFINE_bool("matrix", False, "A table of every topology with every mesh.")
    _PROMPT = flags.DEFINE_integer(
        "prompt_tokens", None, "Columns of a prompt; by default those of the catalogue's longest one.", lower_bound=1
    )
    _HLO = flags.DEFINE_string("hlo", None, "File for the text of the compiled program.")
    _OUTPUT = flags.DEFINE_string("output", None, "JSON file for what is printed.")
    flags.mark_flags_as_required(["config", "topology"])

GIB = 2**30
# What is given to a program of a chip's memory, in bytes, by JAX's name for it, as the compiler's errors state it.
LIMITS = {"TPU v5": 95.74 * GIB, "TPU v5 lite": 15.75 * GIB, "TPU v6 lite": 31.25 * GIB}


class OutOfMemoryError(Exception):
    """The program needs more memory than a chip has; the message says how much, for what, and what to change."""


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What is compiled: `train_step` of these arguments, whose arrays are shapes that lie on a mesh."""

    mesh: jax.sharding.Mesh
    program: Program
    state: TrainState
    tables: Tables
    frozen: Frozen


@dataclasses.dataclass(frozen=True)
class Report:
    """What a compiled program takes. Memory is a chip's, in bytes; seconds are this machine's.

    collectives: by kind and the mesh axes along which it moves data: how many there are, how often they are run in
    all, and the bytes that a chip sends in them. Loops whose end is computed, the decoding ones, count as if every
    message were as long as it may be.
    """

    topology: str
    mesh: dict[str, int]
    columns: dict[str, int]
    parameters: int
    trained: int
    arguments: int
    temporaries: int
    peak: int
    limit: int
    seconds: float
    processor_seconds: float
    host_peak: int
    collectives: dict[str, tuple[int, float, float]]
    estimate: roofline.Estimate


def chips(topology: str) -> list:
    """The chips of a topology.

    Raises:
      ValueError: there is no such topology, or no libtpu.
    """
    try:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    except Exception as error:  # The compiler's own errors have no common type.
        known = "Use a kind and its shape in chips, such as v5p:4x4x4, v5e:16x16 or v6e:8x8"
        raise ValueError(
            f"--topology={topology}: {str(error).splitlines()[0][:200]}. {known}; the compiler is in the package "
            "libtpu (pip install libtpu)."
        ) from error
    if devices[0].device_kind not in LIMITS:
        raise ValueError(
            f"--topology={topology}: {devices[0].device_kind} is not among {', '.join(LIMITS)}, the kinds whose memory "
            "and speed are known here."
        )
    return devices


def build(config: setup.Config, devices: list[jax.Device], prompt: int | None = None) -> Inputs:
    """The program of a configuration, for these chips.

    Of the catalogue only sizes matter: where it would have to be downloaded, the generated one stands in for it.

    Args:
      prompt: columns of a prompt; None for those of the longest one.
    """
    if config.catalog.data_dir is None:
        config = dataclasses.replace(config, catalog=dataclasses.replace(config.catalog, name="generated"))
    vocab_size = None if config.model.checkpoint else presets.preset(config.model.preset).vocab_size
    with tempfile.TemporaryDirectory() as nothing:
        run = setup.prepare(config, pathlib.Path(nothing), lambda line: None, len(devices), vocab_size)
    program = run.program

    def published(model: presets.ModelConfig) -> transformer.Weights:
        """Weights in the type in which they are published."""
        plain = dataclasses.replace(model, lora=presets.LoraConfig())
        return jax.tree.map(lambda x: x.astype(model.dtype), transformer.init(run.key, plain))

    def start() -> tuple[TrainState, Frozen]:
        """What `experiments.train` begins with."""
        state = program.init_state(run.key, transformer.init(run.key, program.model))
        shares = program.model.lora.rank or config.seller.model == "base"
        return state, Frozen(
            base=published(program.model) if shares else None,
            opponent=published(program.opponent.model) if config.seller.model == "own" else None,
            reference=run.reference(state.weights),
        )

    mesh = sharding.make(config.mesh, devices)
    shapes = (*jax.eval_shape(start), jax.eval_shape(lambda: _with_prompts(run.train_tables, prompt)))
    lay = lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)
    state, frozen, tables = jax.tree.map(lay, shapes, sharding.shardings(shapes, mesh))
    return Inputs(mesh, program, state, tables, frozen)


def _with_prompts(tables: Tables, columns: int | None) -> Tables:
    """The environment with prompts of so many columns."""

    def widen(side):
        if side is None or columns is None:
            return side
        if columns < side.layout.prompt:
            raise ValueError(f"--prompt_tokens={columns}, but the longest prompt has {side.layout.prompt} tokens.")
        wide = jnp.zeros((side.prompts_NxL.shape[0], columns), jnp.int32)
        return side.replace(prompts_NxL=wide, layout=dataclasses.replace(side.layout, prompt=columns))

    return tables.replace(buyer=widen(tables.buyer), seller=widen(tables.seller))


def compiled(inputs: Inputs) -> jax.stages.Compiled:
    """The compiled program.

    Raises:
      OutOfMemoryError: it needs more than a chip has.
    """
    with jax.set_mesh(inputs.mesh):
        try:
            lowered = train_step.lower(inputs.program, inputs.state, inputs.tables, inputs.frozen)
            return lowered.compile()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise OutOfMemoryError(too_much(str(error), inputs.mesh.shape, inputs.program.config)) from error


def too_much(text: str, mesh: Mapping[str, int], config: LearnerConfig) -> str:
    """What the compiler says of memory, in a line, and the way out."""
    sizes = ", ".join(f"{axis}={size}" for axis, size in mesh.items())
    amounts = re.findall(r"\d[\d.]*[KMGT]\b", text)
    needs = f"{amounts[0]}iB of the {amounts[1]}iB that a chip has" if len(amounts) > 1 else text.splitlines()[0][:200]
    return (
        f"on the mesh {sizes} the program needs {needs}. Raise learner.micro_batches "
        f"({config.micro_batches}) for smaller updates; mesh.tensor or mesh.expert for smaller parts of the weights, "
        f"which players hold whole along mesh.fsdp; lower learner.group ({config.group}) or learner.scenarios "
        f"({config.scenarios}) for smaller caches; or take more chips."
    )


def tally(text: str, sizes: dict[str, int]) -> dict[str, tuple[int, float, float]]:
    """Collectives of a compiled program, as in `Report`."""
    found: dict[str, tuple[int, float, float]] = {}
    for operation in hlo.collectives(text):
        if not (axes := hlo.axes(operation, sizes)):
            continue  # Of each device with itself.
        name = f"{operation.kind} over {'+'.join(axis for axis in sizes if axis in axes)}"
        count, runs, total = found.get(name, (0, 0.0, 0.0))
        times = operation.times
        found[name] = (count + 1, runs + times, total + times * hlo.sent(operation))
    return dict(sorted(found.items(), key=lambda item: -item[1][2]))


def measure(topology: str, inputs: Inputs) -> tuple[Report, str]:
    """Compiles a program; what it takes, and its text."""
    begun = time.monotonic(), time.process_time()
    binary = compiled(inputs)
    seconds, processor_seconds = time.monotonic() - begun[0], time.process_time() - begun[1]
    memory, text = binary.memory_analysis(), binary.as_text()
    program, tables = inputs.program, inputs.tables
    device = inputs.mesh.devices.flat[0].device_kind
    whole = inputs.state.weights if not program.model.lora.rank else (inputs.state.weights, inputs.frozen.base)
    return Report(
        topology=topology,
        mesh=dict(inputs.mesh.shape),
        columns={
            name: side.layout.columns for name, side in (("buyer", tables.buyer), ("seller", tables.seller)) if side
        },
        parameters=transformer.parameter_count(whole),
        trained=transformer.parameter_count(inputs.state.weights),
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        peak=memory.peak_memory_in_bytes,
        limit=int(LIMITS[device]),
        seconds=seconds,
        processor_seconds=processor_seconds,
        host_peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        collectives=tally(text, dict(inputs.mesh.shape)),
        estimate=roofline.estimate(program, tables, dict(inputs.mesh.shape), device),
    ), text


def written(report: Report) -> str:
    """The report as it is printed."""
    gib = lambda amount: f"{amount / GIB:.2f} GiB"
    lines = [
        f"{report.topology}, mesh {', '.join(f'{axis}={size}' for axis, size in report.mesh.items())}",
        f"{report.parameters:,} parameters, of which {report.trained:,} are trained; contexts of "
        + " and ".join(f"{columns:,} columns ({name})" for name, columns in report.columns.items()),
        "",
        "memory of a chip",
        f"  arguments    {gib(report.arguments):>12}",
        f"  temporaries  {gib(report.temporaries):>12}",
        f"  peak         {gib(report.peak):>12}   {100 * report.peak / report.limit:.0f} % of {gib(report.limit)}",
        f"compiled in {report.seconds:.0f} s ({report.processor_seconds:.0f} s of a processor), with at most "
        f"{gib(report.host_peak)} of this machine's memory",
        "",
        "collectives of an iteration, as if every message were as long as it may be",
        tabulate.tabulate(
            [
                (name, count, f"{runs:,.0f}", f"{total / GIB:,.2f}")
                for name, (count, runs, total) in report.collectives.items()
            ],
            headers=("kind, and axes of the mesh", "in the program", "times", "GiB sent by a chip"),
            colalign=("left", "right", "right", "right"),
            disable_numparse=True,
        ),
        "",
        roofline.written(report.estimate),
    ]
    return "\n".join(lines)


def matrix(arguments: list[str], topologies: list[str], meshes: list[str]) -> str:
    """A table of topologies and meshes, as Markdown; each is compiled by a command of its own with `arguments`."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "report.json")
        for topology in topologies:
            for mesh in meshes:
                print(f"compiling for {topology}, {mesh}", file=sys.stderr, flush=True)
                command = [sys.executable, "-m", "launch.compile_check", *arguments]
                command += [f"--topology={topology}", f"--mesh={mesh}", f"--output={file}"]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    rows.append((topology, mesh, done.stderr.strip().splitlines()[-1].removeprefix("error: ")))
                    continue
                report = json.loads(file.read_text())
                gib = [report[name] / GIB for name in ("arguments", "temporaries", "peak", "limit", "host_peak")]
                rows.append((topology, mesh, *(f"{x:.2f}" for x in gib[:3]), f"{100 * gib[2] / gib[3]:.0f}"))
                rows[-1] += tuple(f"{report['estimate'][name]:.0f}" for name in roofline.PHASES)
                rows[-1] += (f"{report['seconds']:.0f}", f"{gib[4]:.1f}")
    headers = ["topology", "mesh", "arguments, GiB", "temporaries, GiB", "peak, GiB", "% of the limit"]
    headers += [*(f"{phase}, s" for phase in roofline.PHASES), "compiled in, s", "on a host's GiB"]
    return tabulate.tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def main() -> None:
    with cli.checking_input():
        meshes = _MESH.value or [None]
        if _MATRIX.value:
            if not _MESH.value:
                raise ValueError("--matrix needs meshes: --mesh=fsdp=4,expert=16 --mesh=fsdp=64")
            own = ("--matrix", "--topology", "--mesh", "--output", "--hlo")
            print(matrix([x for x in sys.argv[1:] if not x.startswith(own)], _TOPOLOGY.value, meshes))
            return
        if len(_TOPOLOGY.value) * len(meshes) > 1:
            raise ValueError("several topologies or meshes make a table: add --matrix.")
        config = door.from_config_dict(setup.Config, _CONFIG.value)
        if meshes[0]:
            config = dataclasses.replace(config, mesh=cli.mesh(meshes[0]))
        inputs = build(config, chips(_TOPOLOGY.value[0]), _PROMPT.value)
    try:
        report, text = measure(_TOPOLOGY.value[0], inputs)
    except OutOfMemoryError as error:
        raise cli.InputError(str(error)) from error
    print(written(report))
    if _HLO.value:
        pathlib.Path(_HLO.value).write_text(text)
    if _OUTPUT.value:
        pathlib.Path(_OUTPUT.value).write_text(json.dumps(dataclasses.asdict(report), indent=2))


if __name__ == "__main__":
    cli.run(main, setup.Config)
