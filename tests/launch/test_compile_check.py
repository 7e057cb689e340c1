"""A small iteration compiled for TPUs that are not there, a minute by itself, and what is refused before that."""

import json
import os
import re
import subprocess
import sys

import pytest

from launch import compile_check
from negot_jax.models.sharding import MeshConfig
from negot_jax.rl.configs import LearnerConfig
from negot_jax.roofline import hlo
from tests import forked, tiny_run

pytestmark = pytest.mark.slow  # They compile by libtpu, which is large.

WIDTH, HIDDEN, EXPERTS, MESSAGE = 32, 48, 4, 80
SIZES = {"data": 1, "fsdp": 2, "tensor": 1, "expert": 2}
ARGUMENTS = [
    "--config=experiments/configs/paper_30b.py",
    "--topology=v5e:2x2",
    "--config.game.turns=1",
    "--config.language.text_tokens=8",
    "--config.language.prompts=compact",
    f"--config.language.message_tokens={MESSAGE}",
    f"--config.seller.message_tokens={MESSAGE}",
    "--config.model.layers=2",
    f"--config.model.width={WIDTH}",
    "--config.model.heads=4",
    "--config.model.kv_heads=4",
    "--config.model.head_dim=8",
    f"--config.model.mlp={HIDDEN}",
    f"--config.model.experts={EXPERTS}",
    "--config.model.active_experts=2",
    "--config.learner.scenarios=8",
    "--config.learner.group=4",
    "--config.learner.micro_batches=2",
]


def _run(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "launch.compile_check", *ARGUMENTS, *arguments]
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return subprocess.run(command, cwd=tiny_run.ROOT, env=env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """What the command prints, what it writes, and the program's operations."""
    folder = tmp_path_factory.mktemp("compiled")
    done = _run("--mesh=fsdp=2,expert=2", f"--output={folder}/report.json", f"--hlo={folder}/program.txt")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "compiling for v5e:2x2 ..." in done.stderr
    text = (folder / "program.txt").read_text()
    return (
        done.stdout,
        json.loads((folder / "report.json").read_text()),
        list(hlo.operations(text)),
        hlo.collectives(text),
    )


def _is_decoding(operation: hlo.Operation) -> bool:
    return ("while", MESSAGE) in operation.around


def test_it_says_what_a_chip_would_hold(compiled):
    printed, report, _, _ = compiled
    for said in ("v5e:2x2", "arguments", "temporaries", "of 15.75 GiB", "all-gather over expert", "bound by memory"):
        assert said in printed
    # A vocabulary of 151,936 at both ends is most of it; in float32 nothing, since adapters alone are trained.
    ends = 2 * 151_936 * WIDTH
    assert report["parameters"] > ends > 100 * report["trained"]
    assert 2 * ends / 2 < report["arguments"] < 3 * ends / 2 + 64 * 2**20  # With the automata over its tokens.
    assert report["arguments"] < report["peak"] < report["limit"] == int(15.75 * 2**30)
    assert all(report["estimate"][phase] > 0 for phase in ("decode", "prefill", "update"))


def test_loops_are_counted_to_their_end(compiled):
    """Tokens are gathered along `expert` in both layers, at every step, by both players."""
    collectives = compiled[3]
    steps = [op.times for op in collectives if _is_decoding(op) and op.kind == "all-gather" and op.types == ("bf16",)]
    assert sum(steps) == 2 * 2 * MESSAGE


def test_neither_weights_nor_caches_move_while_decoding(compiled):
    report, collectives = compiled[1], compiled[3]
    rows = 8 * 4 / 4
    cache = rows * min(report["columns"].values()) * WIDTH  # Of a layer and a chip, keys alone; a part is read.
    decoding = [op for op in collectives if _is_decoding(op)]
    assert decoding and max(op.size for op in decoding) < cache / 20
    gathered = [op for op in decoding if op.kind == "all-gather" and "fsdp" in hlo.axes(op, SIZES)]
    assert all(set(op.types) == {"s32"} for op in gathered)  # The numbers of tokens, for the embedding.


def test_experts_stay_where_they_are(compiled):
    for operation in compiled[3]:
        if operation.kind == "all-gather" and "expert" in hlo.axes(operation, SIZES):
            assert not [shape for shape in operation.shapes if set(shape[-2:]) == {WIDTH, HIDDEN}], operation.text


def test_no_host_is_called_and_nothing_scattered_while_decoding(compiled):
    for operation in compiled[2]:
        assert operation.kind not in ("infeed", "outfeed", "send", "recv") and "callback" not in operation.text
        assert not (_is_decoding(operation) and operation.kind == "scatter"), operation.text


BOTH = [f"--config.{side}.model=own" for side in ("buyer", "seller")]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--topology=v5e:3x5x7"], "error: --topology=v5e:3x5x7: .* Use a kind and its shape in chips"),
        (["--topology="], "error: --topology is empty"),
        (["--mesh=fsdp=3"], "error: mesh.data=-1, mesh.fsdp=3, .* cannot be laid over 4 devices"),
        (["--mesh=fsdp=2", "--mesh=fsdp=4"], "error: several topologies or meshes make a table: add --matrix"),
        (["--hlo=no/such/folder"], "error: --hlo=no/such/folder: there is no such folder"),
        (["--output=tests"], "error: --output=tests is a folder. Name a file in it"),
        (["--config.learner.role=both", *BOTH], "error: learner.role='both': a check is of one learner"),
        (["--matrix", "--mesh=fsdp=2", "--hlo=x"], "error: --hlo=x .*leave --matrix out"),
    ],
)
def test_what_cannot_be_compiled_is_refused(arguments, message):
    code, _, err = forked.run("launch.compile_check", [*ARGUMENTS, *arguments])
    assert code == 1
    *said, line = err.strip().splitlines()
    assert re.fullmatch(f"{message}.*", line)
    assert all(line.startswith("building the program") for line in said)


def test_too_much_memory_is_told_with_the_way_out():
    text = (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (27.62G) exceeds "
        "available HBM (15.75G)."
    )
    told = compile_check.too_much(text, {"data": 1, "fsdp": 4}, LearnerConfig(micro_batches=2))
    assert re.match(
        r"on the mesh data=1, fsdp=4 the program needs 27.62GiB of the 15.75GiB that a chip has. Raise "
        r"learner.micro_batches \(2\) .* lower learner.group \(8\)",
        told,
    )


def test_too_much_memory_is_an_error():
    done = _run("--config.game.turns=1", "--config.learner.group=512")
    assert done.returncode == 1
    assert re.fullmatch(
        r"error: on the mesh data=1, fsdp=4, .* the program needs \d+\.\d+GiB of the 15.75GiB that a chip has.*",
        done.stderr.strip().splitlines()[-1],
    )


def test_a_table_of_meshes(tmp_path):
    output = tmp_path / "reports.json"
    done = _run("--matrix", "--mesh=fsdp=2,expert=2", "--mesh=fsdp=3", f"--output={output}")
    header, _, fits, refused = done.stdout.strip().splitlines()
    assert [report["mesh"]["expert"] for report in json.loads(output.read_text())] == [2]
    assert "peak, GiB" in header and "v5e:2x2" in fits and "cannot be laid over 4 devices" in refused


@pytest.mark.parametrize("text", ["fsdp:2", "fsdp=2,", "fsdp=2,fsdp=4", "rows=2", "fsdp"])
def test_a_malformed_mesh_is_refused(text):
    with pytest.raises(ValueError, match=f"--mesh={text} .*data, fsdp, tensor, expert"):
        compile_check.parse_mesh(text)
    assert compile_check.parse_mesh("fsdp=2,data=-1") == MeshConfig(data=-1, fsdp=2)
