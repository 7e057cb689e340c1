"""Bad input to the commands that read episodes: one line that names what is wrong, and nothing written."""

import re

import pytest

from tests import forked
from tests.test_command_line import filled, nothing, recorded, write

POOLING = {
    "nothing": (nothing, ["--workdirs="], "--workdirs names no folder. Name at least one run"),
    "no flag": (nothing, [], "--workdirs must have a value"),
    "no report": (
        nothing,
        ["--workdirs={folder}/run"],
        "run/report holds no episodes.jsonl. Evaluate the run",
    ),
    "damaged totals": (
        lambda folder: [write(f"run/report/{name}", "{}")(folder) for name in ("episodes.jsonl", "evaluation.json")],
        ["--workdirs={folder}/run"],
        "run/report is damaged: .* Evaluate the run again",
    ),
}

REPRODUCING = {
    "nothing": (nothing, ["--workdirs="], "--workdirs names no folder. Name at least one finished run"),
    "no run": (nothing, ["--workdirs={folder}/run"], "holds no run: no manifest.json"),
    "unknown table": (nothing, ["--workdirs=x", "--table=mian"], "--table 'mian' is unknown; did you mean 'main'"),
    "empty table": (nothing, ["--workdirs=x", "--table="], "--table is empty. Name some of main"),
    "unknown figure": (nothing, ["--workdirs=x", "--figure=price"], "--figure 'price' is unknown; did you mean 'price"),
    "nothing trained": (recorded, ["--workdirs={folder}/run"], "holds no checkpoint yet. Train it first"),
}

PAGES = {
    "no file": (nothing, ["--episodes={folder}/none.jsonl"], "none.jsonl is not a file. Name those"),
    "a folder to read": (
        nothing,
        ["--episodes={folder}"],
        "is not a file. Name those of reports, RUN/report/episodes.jsonl",
    ),
    "no episode": (write("e.jsonl", ""), ["--episodes={folder}/e.jsonl"], "holds no episode. Name a file with some"),
    "a folder to write": (nothing, ["--episodes=x", "--output={folder}"], "--output=.* is a folder. Name a file"),
    "another file": (write("e.jsonl", "{}\n"), ["--episodes={folder}/e.jsonl"], "e.jsonl, line 1: version None of the"),
}


@pytest.mark.parametrize(
    ("module", "case"),
    [
        (module, case)
        for module, cases in (("pool", POOLING), ("reproduce", REPRODUCING), ("page", PAGES))
        for case in cases
    ],
)
def test_what_reads_episodes_refuses(module, case, tmp_path):
    prepare, arguments, message = {"pool": POOLING, "reproduce": REPRODUCING, "page": PAGES}[module][case]
    prepare(tmp_path)
    line = forked.refused(f"experiments.{module}", [f"--output={tmp_path}/made", *filled(arguments, tmp_path)])
    assert re.search(message, line)
    assert not (tmp_path / "made").exists()
