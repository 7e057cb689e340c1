"""Bad input to the commands: exit code 1 and one line that names what is wrong and the way out, before any work."""

import errno
import functools
import io
import json
import pathlib
import re

import jax
import pytest
import sentencepiece

from experiments import cli
from negot_jax.language import tokenizer as tokenizers
from negot_jax.run import manifest
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


def recorded(folder: pathlib.Path, trained: bool = True, **overrides) -> None:
    """A run's folder: its manifest and tokenizer and, if it has trained, a folder where its warm start would be."""
    tokenizer = tokenizers.train(["some words to train on"] * 9, 512)
    inputs = {"tokenizer": manifest.digest(tokenizer.model)}
    (folder / "run/warm_start" if trained else folder / "run").mkdir(parents=True)
    (folder / "run/tokenizer.model").write_bytes(tokenizer.model)
    manifest.record_start(folder / "run", tiny_run.config(**overrides), inputs, {})


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
    "field that a group lacks": (
        nothing,
        ["--config.optimizer.lr=1"],
        r"unknown config field optimizer.lr: did you mean optimizer.learning_rate\?",
    ),
    "a value for a group": (
        nothing,
        ["--config.algorithm=ppo"],
        "--config.algorithm=ppo: algorithm is a group. Set --config.algorithm.FIELD=VALUE; .*quickstart.py:ppo",
    ),
    "a profile of what is not trained": (
        nothing,
        ["--profile=5:8"],
        "--profile=5:8: training.iterations=8 are counted",
    ),
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
    "temperature without a number": (
        nothing,
        ["--config.sampling.temperature=nan"],
        "temperature=nan: use a finite number",
    ),
    "a number for a range": (nothing, ["--config.game.seller=neutral(beta=3)"], "neutral.beta=3: must have the type"),
    "indivisible batch": (
        nothing,
        ["--config.learner.scenarios=5", "--config.learner.micro_batches=3"],
        "do not divide",
    ),
    "stray argument": (nothing, ["learner.group=4"], "unexpected arguments learner.group=4: .*--name=value"),
    "flagfile not there": (nothing, ["--flagfile={folder}/no"], "--flagfile: .*No such file.* one flag per line"),
    "flagfile without a name": (nothing, ["--flagfile"], "--flagfile: .*no argument"),
    "flagfile of no text": (
        lambda folder: (folder / "flags").write_bytes(b"\xff--workdir=x"),
        ["--flagfile={folder}/flags"],
        "--flagfile: .*decode byte 0xff",
    ),
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
        r"config.py has no get_config\(\)",
    ),
    "config that returns nothing": (
        config_file("pass"),
        ["--config={folder}/config.py"],
        "returned a NoneType, not a Conf",
    ),
    "unknown algorithm": (nothing, [f"--config={QUICKSTART}:pppo"], "algorithm 'pppo' is unknown; did you mean 'ppo'"),
    "catalog not there": (nothing, AMAZON, "data_dir='.*/data' is not a folder; give the folder that holds"),
    "catalog empty": (lambda folder: (folder / "data").mkdir(), AMAZON, "data_dir='.*/data' holds no .*json file"),
    "catalog of empty lists": (write("data/books.json", "[]"), AMAZON, "no product in any of books.json"),
    "catalog that is no JSON": (
        write("data/books.json", '[{"title": '),
        AMAZON,
        "books.json: not JSON",
    ),
    "catalog of something else": (
        write("data/books.json", '[{"title": "A"}]'),
        AMAZON,
        "books.json, row 0, field 'cat",
    ),
    "test set too large": (nothing, ["--config.catalog.test=5000"], "test=5000 of 930 products .* from 1 to 929"),
    "workdir is a file": (write("run", ""), [], "--workdir=.*/run cannot be written to: it is not a folder"),
    "workdir below a file": (write("f", ""), ["--workdir={folder}/f/run"], "/f/run cannot be written to: .* /?.*/f"),
    "workdir not writable": (nothing, ["--workdir=/proc/run"], "--workdir=/proc/run cannot be written to"),
    "workdir without a name": (nothing, ["--workdir="], "--workdir is empty"),
    "folder without a name": (nothing, ["--config.model.checkpoint="], "config.model.checkpoint is empty"),
    "workdir of another run": (
        functools.partial(recorded, seed=5),
        [],
        "config.seed: saved 5, now 0.* another --workdir",
    ),
    "manifest damaged": (
        write("run/manifest.json", '{"config": {'),
        [],
        "manifest.json is damaged: .* Put a copy back",
    ),
    "manifest incomplete": (
        write("run/manifest.json", '{"config": {}}'),
        [],
        "json is damaged: it lacks run_id",
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


def damaged(folder: pathlib.Path, language__message_tokens: int = 32, **values) -> None:
    """A run's folder with some of its manifest changed."""
    recorded(folder, language__message_tokens=language__message_tokens)
    path = folder / "run/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


EVALUATION = {
    "no run": (nothing, [], "--workdir=.*/run holds no run: no manifest.json. Train one with experiments.train"),
    "workdir is a file": (write("run", ""), [], "--workdir=.*/run holds no run: no manifest.json"),
    "manifest damaged": (write("run/manifest.json", "\0" * 99), [], "manifest.json is damaged: .* Put a copy back"),
    "unknown field in the manifest": (
        functools.partial(damaged, config={"lerner.group": 3}),
        [],
        "unknown config field lerner = .*: did you mean learner?",
    ),
    "tokenizer of another run": (
        functools.partial(damaged, inputs={"tokenizer": "0" * 16}, language__message_tokens=64),
        ["--config.catalog.name=generated", "--config.evaluation.episodes=3"],
        "(tokenizer|catalog) is not what the run .*: its digest is [0-9a-f]{16}, the manifest's (0000|None)",
    ),
    "unknown field": (recorded, ["--config.evaluation.episode=3"], "did you mean evaluation.episodes"),
    "unknown seller": (recorded, ["--seller=insluting"], "did you mean 'insulting'"),
    "a seller twice": (
        recorded,
        ["--seller=floor", "--config.game.seller=linear"],
        "--seller and --config.game.seller",
    ),
    "several reports in one folder": (
        recorded,
        ["--seller=floor", "--seller=linear", "--output=x"],
        "--output=x holds one report",
    ),
    "a field of training": (recorded, ["--config.learner.group=4"], "config.learner.group .* only matters in training"),
    "mesh of more devices": (recorded, ["--config.mesh.tensor=2"], "mesh.tensor=2, .* cannot be laid over 1 devices"),
    "stray argument": (nothing, ["x"], "unexpected arguments x"),
    "flagfile not there": (nothing, ["--flagfile={folder}/no"], "--flagfile: .*No such file.* one flag per line"),
}


def filled(arguments: list[str], folder: pathlib.Path) -> list[str]:
    return [argument.format(folder=folder) for argument in arguments]


@pytest.mark.parametrize("case", TRAINING)
def test_training_refuses(case, tmp_path):
    prepare, arguments, message = TRAINING[case]
    prepare(tmp_path)
    own = [f"--workdir={tmp_path}/run"]
    if not any(argument.startswith("--config=") for argument in arguments):
        own = tiny_run.arguments(tmp_path / "run")
    assert re.search(message, forked.refused("experiments.train", [*own, *filled(arguments, tmp_path)]))


@pytest.mark.parametrize("case", EVALUATION)
def test_evaluation_refuses(case, tmp_path):
    prepare, arguments, message = EVALUATION[case]
    prepare(tmp_path)
    line = forked.refused("experiments.evaluate", [f"--workdir={tmp_path}/run", *filled(arguments, tmp_path)])
    assert re.search(message, line)
    assert not (tmp_path / "run/checkpoints").exists()  # It only reads.


def test_flags_are_required():
    assert "--config must have a value" in forked.refused("experiments.train", ["--workdir=x"])
    assert "--workdir must have a value" in forked.refused("experiments.train", [f"--config={QUICKSTART}"])
    assert "--workdir must have a value" in forked.refused("experiments.evaluate", [])


def test_an_export_goes_to_a_disk(tmp_path):
    recorded(tmp_path)
    assert "--workdir=/nowhere holds no run" in forked.refused(
        "experiments.export", ["--workdir=/nowhere", "--output=x"]
    )
    line = forked.refused("experiments.export", [f"--workdir={tmp_path}/run", "--output=gs://bucket/buyer"])
    assert re.search("--output=gs://bucket/buyer is in a bucket.*gcloud storage cp", line)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "x"),
            "No space left on device: 'x'. Make room, and run the same",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), r"No such file: 'x'$"),
        (ConnectionError("no network\nhere"), "error: no network here$"),
        (CheckpointError("a checkpoint"), "error: a checkpoint$"),
        (NotFiniteError("a number"), "error: a number$"),
        (
            jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.\nsecond line"),
            "error: out of memory: .*allocating 8 bytes.* raise learner.micro_batches",
        ),
    ],
)
def test_what_fails_in_the_work_is_one_line_as_well(error, line):
    def main():
        raise error

    with pytest.raises(SystemExit, match=line):
        cli.guard(main)


@pytest.mark.parametrize("error", [ValueError("not the user's"), jax.errors.JaxRuntimeError("INTERNAL: a kernel")])
def test_a_fault_of_the_program_keeps_its_traceback(error):
    def main():
        raise error

    with pytest.raises(type(error), match=str(error)):
        cli.guard(main)
