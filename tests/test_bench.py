"""The benchmarks, at sizes that measure nothing: they run, and do the work that they say."""

import json
import pathlib
import re

import jax
import pytest

from experiments import cli
from experiments.bench import decoding, game, gpu, iteration, report, timing
from negot_jax.models import kv_cache, transformer
from negot_jax.run import assembly
from negot_jax.run.config import override
from tests import forked

TINY = {
    "game.turns": 1,
    "model": {"layers": 1, "width": 16, "heads": 1, "kv_heads": 1, "head_dim": 16, "mlp": 16},
    "learner": {"scenarios": 2, "group": 2, "micro_batches": 1},
}


@pytest.fixture(scope="module")
def figures():
    return iteration.measure(assembly.assemble(override(iteration.config_of("lm"), TINY)), repeats=1)


@pytest.mark.slow  # What it compiles no other test does.
def test_no_message_and_no_game_ends_early(figures):
    assert figures["buyer_tokens"] == figures["seller_tokens"] == 4 * 24
    assert figures["context"] >= 328
    assert figures["rollout_s"]["median"] > 0 and figures["compile_s"] > 0


@pytest.mark.slow
def test_the_report_shows_what_was_measured(figures, tmp_path):
    beside = figures | {"peer": "theirs", "peer_over_ours": 1.5}
    beside["peer_s"] = {name: timing.summary([9.0]) for name in ("iter_s_median", "rollout_s", "update_s")}
    found = {
        "machine": timing.machine(),
        "game": {"rows": [game.measure("floor", 4, repeats=1)]},
        "iteration": {"lm": beside},
        "scaling": {"turns": [{"size": size} | figures for size in (1, 2)]},
        "quickstart": {"whole": 60.0},
    }
    text = report.markdown(found)
    assert "| floor " in text and "9.00 (9.00-9.00)" in text and "1.50" in text and "60.00" in text
    report.plot(found["scaling"], tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").stat().st_size > 1_000


def test_decoding_reads_the_matrices_and_the_cache_once_per_step():
    model, rows, columns = iteration.preset("tiny"), 2, 8
    found = decoding.measure(model, rows, columns, tokens=4, repeats=1)
    weights, cache = transformer.init(jax.random.key(0), model), kv_cache.init_cache(rows, columns, model)
    held = sum(leaf.nbytes for leaf in jax.tree.leaves((weights, cache.keys, cache.values)))
    assert found["read_gib_per_step"] * 2**30 == pytest.approx(held, rel=0.02)  # The norms are left out.
    assert found["tokens_per_s"]["median"] > 0 and found["bandwidth_share"] is None


@pytest.mark.slow
def test_an_iteration_of_adapters_does_the_work_of_its_peer():
    found = gpu.of_model("tiny", 8, [str(pathlib.Path(gpu.__file__).with_name("peer_trl.py"))], repeats=1)
    ours = found["iteration"]
    assert ours["context"] == 640 and ours["buyer_tokens"] == 8 * 6 * 64
    assert ours["peer"].startswith("trl") and ours["peer_over_ours"] > 0
    machine = {"machine": timing.machine()}
    found = {"episodes": 8, "models": {"tiny": found}, "many": 8, "at_once": ours | machine}
    assert "| tiny    | peer / negot_jax" in gpu.markdown(found)


# The command and its arguments, and what the line must say.
REFUSED = {
    "too many episodes at once": ("game --batch=1000000000000", "--batch=1000000000000: .*16777216"),
    "no such scripted seller": ("game --seller=neutrl", "--seller: .*did you mean 'neutral'"),
    "a field without a value": ("iteration --set=learner.scenarios", "--set=learner.scenarios is not FIELD=VALUE"),
    "devices that are not there": ("iteration --set=mesh.fsdp=7", "mesh.fsdp=7"),
    "work of a seller": ('iteration --set=learner.role="seller"', "the work is a buyer's"),
    "a peer of another model": ("gpu --model=qwen3-8b --peer=x", "--model=qwen3-8b: a peer makes dense, tied Qwen3"),
    "a peer without a name": ("iteration --peer=", "--peer is empty"),
    "more than the whole": ("quickstart --share=51", "--share=51: .*50"),
    "a checkpoint without a name": ("load_checkpoint --checkpoint=", "empty name"),
    "a checkpoint that is cut off": ("load_checkpoint --checkpoint={folder}", "model.safetensors not found"),
    "a run that is not there": ("continuous --workdir={folder}", "holds no run"),
    "more tokens than columns": ("decoding --columns=8 --tokens=9", "--tokens=9 do not fit into --columns=8"),
    "no such preset": ("gpu --model=qwen", "qwen"),
    "no whole groups": ("gpu --episodes=12", "--episodes=12 do not divide into groups of 8"),
    "a report without a name": ("report --output=", "--output is empty"),
    "a report in a file": ("report --output={folder}/config.json", "--output=.* is not a folder"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_one_line(case, tmp_path):
    command, told = REFUSED[case]
    config = {"model_type": "llama", "vocab_size": 9, "num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 8}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 4, "max_position_embeddings": 64}
    (tmp_path / "config.json").write_text(json.dumps(config | heads))
    module, *arguments = command.format(folder=tmp_path).split()
    assert re.search(told, forked.refused(f"experiments.bench.{module}", arguments))


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (None, "failed with code 2: .*can't open file"),
        ("raise SystemExit('no torch')", "failed with code 1: no torch"),
        ("", "its last line is not a JSON object with peer, .*: ''"),
        ("print('{}')", "not a JSON object with peer, iter_s_median"),
        ("print('[1]')", "not a JSON object"),
    ],
)
def test_a_peer_that_fails_is_told_before_ours_is_measured(script, told, tmp_path):
    peer = tmp_path / "a peer.py"
    if script is not None:
        peer.write_text(script)
    with pytest.raises(cli.InputError, match=told):
        iteration.with_peer(lambda: pytest.fail("measured"), [str(peer)])
