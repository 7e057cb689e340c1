"""Bad input to the commands: exit code 1 and one line that names what is wrong and the way out, before any work."""

import errno
import fcntl
import functools
import io
import json
import pathlib
import re

import pytest
import sentencepiece

from experiments import cli, setup
from negot_jax import config as door
from negot_jax.language import tokenizer as tokenizers
from negot_jax.models.sharding import MeshConfig
from negot_jax.training import manifest
from negot_jax.training.checkpoint import CheckpointError
from negot_jax.training.loop import NotFiniteError
from tests import forked, tiny_run

QUICKSTART = tiny_run.ROOT / "experiments/configs/quickstart.py"


def write(name: str, content: str | bytes):
    """Puts a file into the folder of the test."""

    def prepare(folder: pathlib.Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return prepare


def config_file(body: str):
    """Puts a configuration into the folder: the quickstart's, with something done to it."""
    lines = (
        f"from experiments.configs import quickstart\ndef get_config():\n  config = quickstart.get_config()\n  {body}\n"
    )
    return write("config.py", lines)


def sentencepiece_model(**options) -> bytes:
    sink = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["some words to train on"] * 9),
        model_writer=sink,
        vocab_size=300,
        hard_vocab_limit=False,
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=-1,
        pad_piece="<pad>",
        bos_piece="<bos>",
        minloglevel=2,
        **options,
    )
    return sink.getvalue()


def another_run(folder: pathlib.Path) -> None:
    manifest.record_start(folder / "run", tiny_run.config(seed=5), 5, {}, b"its tokenizer")


def nothing(folder: pathlib.Path) -> None:
    pass


AMAZON = ["--config.catalog.name=amazon_history_price", "--config.catalog.data_dir={folder}/data"]
CONTROL = {"control_symbols": ["<eot>", "<buyer>", "<seller>"]}

# What is there, the arguments besides a run's own, and what the line must say.
TRAINING = {
    "unknown field": (
        nothing,
        ["--config.lerner.group=4"],
        "unknown config field lerner.group: did you mean learner.gr",
    ),
    "field without group": (nothing, ["--config.group=4"], "unknown config field group: did you mean learner.group?"),
    "text for a number": (nothing, ["--config.learner.group=abc"], "--config.learner.group=abc: .*'abc'"),
    "fraction for a number": (nothing, ["--config.learner.group=4.5"], "--config.learner.group=4.5: .*'4.5'"),
    "text for a truth": (nothing, ["--config.language.force_deal_price=perhaps"], "force_deal_price=perhaps: "),
    "no such choice": (nothing, ["--config.catalog.prices=euros"], "catalog.prices = 'euros' is not one of 'dollars'"),
    "impossible value": (nothing, ["--config.training.keep=0"], "training.keep=0 must be at least 1"),
    "seed too large": (nothing, ["--config.seed=99999999999999999999"], "seed=9+ must be from 0 to 4294967295"),
    "negative rate": (
        nothing,
        ["--config.optimizer.learning_rate=-1"],
        "optimizer.learning_rate=-1.0 must be 0 or more",
    ),
    "rate that is no number": (
        nothing,
        ["--config.optimizer.learning_rate=nan"],
        "optimizer.learning_rate=nan must be",
    ),
    "moment without decay": (nothing, ["--config.optimizer.beta2=2"], "optimizer.beta2=2.0 must be in .0, 1."),
    "no rows to clone": (
        nothing,
        ["--config.warm_start.micro_batches=0"],
        "warm_start.micro_batches=0 must be at least 1",
    ),
    "negative warm start": (nothing, ["--config.warm_start.steps=-1"], "warm_start.steps=-1 must be at least 0"),
    "temperature without a number": (nothing, ["--config.sampling.temperature=nan"], "temperature=nan is no number"),
    "a number for a range": (nothing, ["--config.game.seller=neutral(beta=3)"], "neutral.beta=3: must be of the kind"),
    "indivisible batch": (
        nothing,
        ["--config.learner.scenarios=5", "--config.learner.micro_batches=3"],
        "do not divide",
    ),
    "stray argument": (nothing, ["learner.group=4"], "unexpected arguments learner.group=4: .*--name=value"),
    "unknown flag": (nothing, ["--workdirs=x"], "[Uu]nknown command line flag 'workdirs'"),
    "config not there": (nothing, ["--config={folder}/no.py"], "no.py: there is no file .*no.py"),
    "config raises": (
        config_file("1 / 0"),
        ["--config={folder}/config.py"],
        "config.py: ZeroDivisionError in line 4: div",
    ),
    "config misspelt": (config_file("config.lerner.group = 4"), ["--config={folder}/config.py"], "line 4: .*lerner"),
    "config with a new field": (
        config_file("config.learner = {'groups': 4}; return config"),
        ["--config={folder}/config.py"],
        "unknown config field learner.groups = 4: did you mean learner.group?",
    ),
    "config of a wrong type": (
        config_file("config.learner.group = 'four'; return config"),
        ["--config={folder}/config.py"],
        "TypeError in line 4: .*'?four'?",
    ),
    "config that is no Python": (
        write("config.py", "def get_config(:"),
        ["--config={folder}/config.py"],
        "SyntaxError",
    ),
    "config without a function": (
        write("config.py", "x = 1"),
        ["--config={folder}/config.py"],
        "KeyError: 'get_config'",
    ),
    "config that returns nothing": (
        config_file("pass"),
        ["--config={folder}/config.py"],
        "returned a NoneType, not a Conf",
    ),
    "unknown algorithm": (nothing, [f"--config={QUICKSTART}:pppo"], "No algorithm is called 'pppo'"),
    "catalogue not there": (nothing, AMAZON, "data_dir='.*/data' is not a folder; give the folder that holds"),
    "catalogue empty": (lambda folder: (folder / "data").mkdir(), AMAZON, "data_dir='.*/data' holds no .*json file"),
    "catalogue of empty lists": (write("data/books.json", "[]"), AMAZON, "no product in any of books.json"),
    "catalogue that is no JSON": (
        write("data/books.json", '[{"title": '),
        AMAZON,
        "books.json: not a JSON file in UTF-8",
    ),
    "catalogue of something else": (
        write("data/books.json", '[{"title": "A"}]'),
        AMAZON,
        "books.json, row 0, field 'cat",
    ),
    "test set too large": (nothing, ["--config.catalog.test=5000"], "test=5000 of 930 products .* from 1 to 929"),
    "workdir is a file": (write("run", ""), [], "--workdir=.*/run is no folder that can be written to: File exists"),
    "workdir below a file": (write("f", ""), ["--workdir={folder}/f/run"], "/f/run is no folder .*: Not a directory"),
    "workdir not writable": (
        nothing,
        ["--workdir=/proc/run"],
        "--workdir=/proc/run is no folder that can be written to",
    ),
    "workdir of another run": (another_run, [], "another run, .* config.seed: saved 5, now 0; .* another --workdir"),
    "manifest damaged": (
        write("run/manifest.json", '{"config": {'),
        [],
        "manifest.json is damaged: .* Put a copy back",
    ),
    "manifest incomplete": (
        write("run/manifest.json", '{"config": {}}'),
        [],
        "json is damaged: it lacks seed, catalog",
    ),
    "metrics damaged": (
        write("run/metrics.csv", "iteration,loss\n0,1\n\0\0\0\n"),
        [],
        "metrics.csv, line 3: not a row of",
    ),
    "tokenizer damaged": (
        write("run/tokenizer.model", b"\x82\x01"),
        [],
        "tokenizer.model: tokenizer: damaged, .* Put a copy",
    ),
    "tokenizer empty": (write("run/tokenizer.model", b""), [], "tokenizer.model: tokenizer: damaged, .*or delete it"),
    "tokenizer without byte tokens": (
        write("run/tokenizer.model", sentencepiece_model(**CONTROL)),
        [],
        "tokenizer.model: tokenizer: no token for .* of the 256 bytes, the first 0x00",
    ),
    "tokenizer without control tokens": (
        write("run/tokenizer.model", sentencepiece_model(byte_fallback=True)),
        [],
        "tokenizer.model: tokenizer: token '<eot>' is missing",
    ),
}


def started(folder: pathlib.Path, **values) -> None:
    """A workdir as it is before its warm start, its manifest changed by `values`."""
    config = tiny_run.config(language__message_tokens=64)
    tokenizer = tokenizers.train(["some words to train on"] * 9, 512)
    (folder / "run").mkdir()
    tokenizer.save(folder / "run/tokenizer.model")
    manifest.record_start(folder / "run", config, config.seed, {}, tokenizer.model)
    path = folder / "run/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


EVALUATION = {
    "no run": (nothing, [], "--workdir=.*/run holds no run: no manifest.json. Train one with experiments.train"),
    "workdir is a file": (write("run", ""), [], "--workdir=.*/run holds no run"),
    "manifest damaged": (write("run/manifest.json", "\0" * 99), [], "manifest.json is damaged: .* Put a copy back"),
    "unknown field in the manifest": (
        functools.partial(started, config={"lerner": {}}),
        [],
        "unknown config field lerner = {}: did you mean learner?",
    ),
    "tokenizer of another run": (
        functools.partial(started, tokenizer="0" * 16),
        [],
        "tokenizer.model is damaged, or of another run: its digest is [0-9a-f]{16}, the manifest's 0000.* Put a copy",
    ),
    "no warm start": (
        started,
        [],
        "warm_start is damaged: it has no CONTENTS.json. The training command makes it anew",
    ),
    "unknown catalogue": (
        started,
        ["--catalog=amazon"],
        "catalog 'amazon' is unknown; did you mean 'amazon_history",
    ),
    "catalogue that reads no files": (started, ["--data_dir=x"], "catalog 'generated' reads no files: leave out"),
    "mesh of more devices": (started, ["--mesh=tensor=2"], "mesh.tensor=2, .* cannot be laid over 1 devices"),
    "stray argument": (nothing, ["x"], "unexpected arguments x"),
}

POOLING = {
    "nothing": (nothing, ["--workdirs="], "--workdirs names no folder. Name at least one run"),
    "no flag": (nothing, [], "--workdirs must have a value"),
    "no report": (
        nothing,
        ["--workdirs={folder}/run"],
        "--workdirs: .*run/report holds no totals.npz. Evaluate the run",
    ),
    "damaged totals": (
        lambda folder: [write(f"run/report/{name}", "{}")(folder) for name in ("totals.npz", "evaluation.json")],
        ["--workdirs={folder}/run"],
        "run/report is damaged: .* Evaluate the run again",
    ),
}


# The whole command line, and what the line must say.
OTHERS = {
    "unknown result": ("theory T22", "result 'T22' is unknown; did you mean 'T2'. Known: T1, T2"),
    "option of another result": ("theory T2 --beta=1", "--beta is no option of T2; did you mean --breakdown?"),
    "misspelt option": ("theory T2 --discont=1", "flag 'discont'. Did you mean: discount"),
    "option of no result": ("theory --discount=1", "--discount goes with a result: name one of T1, T2"),
    "text for a number of rounds": ("theory T2 --rounds=x", "--rounds=x is not a whole number; by default it is 3"),
    "nan": ("theory T6 --discount=nan", "--discount=nan is not a number"),
    "no such discount": ("theory T2 --discount=1.5", "--discount=1.5: a factor a round must be in"),
    "too dear": ("theory T1 --cost=120", "--cost=120: no deal within value=100"),
    "a ladder too short": ("theory T10 --ladder=.1,.2", "has 2 offers; give --offers=2"),
    "too many ladders": ("theory T7 --offers=9", "--prices=21, --offers=9: too many ladders"),
    "no turns": ("best_response --turns=0", "--turns=0: turns must be an integer in the range|--turns=0"),
    "grid of words": ("best_response --grid=400,fine", "--grid=400,fine: 'fine' is no number of cents from 1"),
    "grid of nothing": ("best_response --grid=0", "--grid=0: '0' is no number of cents from 1"),
    "text for a margin": ("best_response --seller=floor(margin='a')", "floor.margin='a': must be of the kind of 0.0"),
    "a number for a range": (
        "best_response --seller=neutral(beta=3)",
        "neutral.beta=3: must be of the kind of .0.4, 2",
    ),
    "output is a file": ("best_response --output=README.md", "--output=README.md is a file. Name a folder"),
    "no such seller": ("best_response --seller=nobody", "policy 'nobody' is unknown"),
    "no such utility": ("best_response --utility=joy", "--utility=joy.*should be one of"),
    "no distribution": ("best_response --cost=uniform", "--cost='uniform' cannot be read; write uniform"),
    "value without cost": ("best_response --value=1", "--value=1.0 goes with --cost"),
    "no such discount for a response": (
        "best_response --discount=0 --seller=floor --turns=1",
        "discount=0.0: a factor",
    ),
    "several sellers into one file": ("best_response --seller=floor --seller=linear --output=x", "is for one seller"),
    "stray argument": ("best_response floor", "unexpected arguments floor: options are written --name=value"),
    "nothing to export": ("export --workdir=/nowhere --output=x", "--workdir=/nowhere holds no run"),
}


def refused(module: str, arguments: list[str]) -> str:
    """The one line of a command that must not get to work."""
    code, out, err = forked.run(module, arguments)
    assert code == 1, (out, err)
    assert "parameters" not in out  # What training says first.
    assert re.fullmatch(r"error: [^\n]+\n", err), err
    return err


def filled(arguments: list[str], folder: pathlib.Path) -> list[str]:
    return [argument.format(folder=folder) for argument in arguments]


@pytest.mark.parametrize("case", TRAINING)
def test_training_refuses(case, tmp_path):
    prepare, arguments, message = TRAINING[case]
    prepare(tmp_path)
    own = [f"--workdir={tmp_path}/run"]
    if not any(argument.startswith("--config=") for argument in arguments):
        own = tiny_run.arguments(tmp_path / "run")
    assert re.search(message, refused("experiments.train", [*own, *filled(arguments, tmp_path)]))


@pytest.mark.parametrize("case", EVALUATION)
def test_evaluation_refuses(case, tmp_path):
    prepare, arguments, message = EVALUATION[case]
    prepare(tmp_path)
    line = refused("experiments.evaluate", [f"--workdir={tmp_path}/run", *filled(arguments, tmp_path)])
    assert re.search(message, line)
    assert not (tmp_path / "run/checkpoints").exists()  # It only reads.


@pytest.mark.parametrize("case", POOLING)
def test_pooling_refuses(case, tmp_path):
    prepare, arguments, message = POOLING[case]
    prepare(tmp_path)
    line = refused("experiments.pool", [f"--output={tmp_path}/pooled", *filled(arguments, tmp_path)])
    assert re.search(message, line)
    assert not (tmp_path / "pooled").exists()


@pytest.mark.parametrize("case", OTHERS)
def test_other_commands_refuse(case):
    (command, *arguments), message = OTHERS[case][0].split(), OTHERS[case][1]
    assert re.search(message, refused(f"experiments.{command}", arguments))


def test_help_lists_every_field_of_the_configuration():
    _, out, _ = forked.run("experiments.train", ["--help"])
    assert "--config:" in out and "--workdir:" in out
    for line in door.help_text(setup.Config).splitlines():
        assert line in out


def test_flags_are_required():
    assert "--config must have a value" in refused("experiments.train", ["--workdir=x"])
    assert "--workdir must have a value" in refused("experiments.train", [f"--config={QUICKSTART}"])
    assert "--workdir must have a value" in refused("experiments.evaluate", [])


def test_an_export_goes_to_a_disk():
    line = refused("experiments.export", ["--workdir=x", "--output=gs://bucket/buyer"])
    assert re.search("--output=gs://bucket/buyer is in a bucket. Name a new folder of this machine, then `gcloud", line)


@pytest.mark.parametrize("text", ["fsdp:2", "fsdp=2,", "fsdp=2,fsdp=4", "rows=2", "fsdp"])
def test_what_is_no_mesh_is_refused(text):
    with pytest.raises(ValueError, match="is no mesh; write some of data, fsdp, tensor, expert"):
        cli.mesh(text)
    assert cli.mesh("fsdp=2,data=-1") == MeshConfig(data=-1, fsdp=2)


def test_two_processes_cannot_train_in_one_folder(tmp_path):
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        line = refused("experiments.train", tiny_run.arguments(tmp_path))
    assert re.search(f"--workdir={tmp_path}: another process is training there", line)
    with cli.sole_use(tmp_path):
        pass  # It was let go of.


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "x"),
            "No space left on device: 'x'. Make room, then the same",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), r"No such file: 'x'$"),
        (ConnectionError("no network\nhere"), "error: no network here$"),
        (CheckpointError("a checkpoint"), "error: a checkpoint$"),
        (NotFiniteError("a number"), "error: a number$"),
    ],
)
def test_what_fails_in_the_work_is_one_line_as_well(error, line):
    def main():
        raise error

    with pytest.raises(SystemExit, match=line):
        cli.guard(main)


def test_a_fault_of_the_program_keeps_its_traceback():
    def main():
        raise ValueError("not the user's")

    with pytest.raises(ValueError, match="not the user's"):
        cli.guard(main)
