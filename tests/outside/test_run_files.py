"""Files of a run that a crash, an editor or another version has changed: one line names the file and what is wrong."""

import json

from etils import epath
import pytest

from negot_jax.evaluation import episodes, statistics, tables
from negot_jax.evaluation.pooling import pool
from negot_jax.run import manifest
from tests.evaluation.made import deals, episode

WHOLE = {"run_id": "0", "config": {"seed": 1}, "inputs": {}, "catalog": {}, "starts": []}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([], "no JSON object"),
        ("run_id config inputs catalog starts", "no JSON object"),
        (WHOLE | {"config": None}, "lacks config"),
        (WHOLE | {"inputs": None, "starts": None}, "lacks inputs, starts"),
        (WHOLE | {"config": {"model.layers": "two"}}, "model.layers = 'two'"),
        (WHOLE | {"config": {"zzz": 3}}, "unknown config field zzz"),
    ],
)
def test_a_manifest_is_of_another_form(content, told, tmp_path):
    (tmp_path / manifest.FILE).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"manifest\.json is damaged: .*{told}.*Put a copy back"):
        manifest.read(tmp_path)


def test_a_manifest_is_a_folder(tmp_path):
    (tmp_path / manifest.FILE).mkdir()
    with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
        manifest.read(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"price": "10"},
        {"price": 10**12},
        {"reward": None},
        {"reward": float("nan")},
        {"product": -1},
        {"rules": {"turns": "six"}},
        {"rules": {"turns": 10**12}},
        {"deal_price": 1.5},
        {"messages": [{"role": "buyer", "turn": -1, "kind": "offer"}]},
        {"messages": [{"role": "buyer", "turn": 0, "kind": "offer", "price": "4"}]},
        {"messages": [{"role": "buyer", "turn": 0, "kind": "offer", "price": 4, "acts": 2**40}]},
        {"messages": {}, "end": "never"},
    ],
    ids=str,
)
def test_an_episode_has_a_value_that_none_has(change, tmp_path):
    (tmp_path / "e.jsonl").write_text(json.dumps(episode().to_json() | change) + "\n")
    with pytest.raises(ValueError, match=r"e\.jsonl, line 1: "):
        episodes.read(tmp_path / "e.jsonl")


@pytest.mark.parametrize("line", ["[1]", "3", "null", '"text"', "{}"])
def test_a_line_is_no_episode(line, tmp_path):
    (tmp_path / "e.jsonl").write_text(f"{line}\n")
    with pytest.raises(ValueError, match=r"e\.jsonl, line 1: "):
        episodes.read(tmp_path / "e.jsonl")


def _report(folder, change=lambda settings: settings):
    """Four products, two episodes each."""
    played = deals([[5000, 5100]] * 4)
    run = tables.TrainedRun("run", 0, 60)
    facts = ("generated", 4, 2, "normalized", "constrained", "neutral", (run,))
    settings = tables.Settings(*facts, identity={}, command="command")
    episodes.write(folder / episodes.FILE, played)
    tables.save(folder, statistics.summarize([statistics.totals(played)], resamples=50), settings)
    told = json.loads((folder / "evaluation.json").read_text())
    (folder / "evaluation.json").write_text(json.dumps(told | {"settings": change(told["settings"])}))
    return epath.Path(folder)


def test_a_pooled_report_overwrites_no_other(tmp_path):
    report = _report(tmp_path)
    before = (tmp_path / "evaluation.json").read_bytes()
    with pytest.raises(ValueError, match=f"--output={tmp_path} is a report with episodes.*Name a new folder"):
        pool([report], tmp_path, "command")
    assert (tmp_path / "evaluation.json").read_bytes() == before


@pytest.mark.parametrize("lines", [lambda lines: lines[:5], lambda lines: lines * 2, lambda lines: []])
def test_a_report_has_lost_episodes_or_holds_them_twice(lines, tmp_path):
    report = _report(tmp_path)
    file = tmp_path / episodes.FILE
    file.write_text("".join(lines(file.read_text().splitlines(keepends=True))))
    with pytest.raises(ValueError, match=f"{tmp_path} is damaged: it .*Evaluate the run again"):
        pool([report], tmp_path / "pooled", "command")


@pytest.mark.parametrize(
    "change",
    [
        {"identity": None},
        {"zzz": 1},
        {"runs": []},
        {"runs": None},
        {"products": "8"},
        {"episodes": None},
        {"prices": "euros"},
        {"decoding": None},
    ],
    ids=str,
)
def test_the_settings_of_a_report_are_of_another_form(change, tmp_path):
    report = _report(tmp_path, lambda settings: settings | change)
    with pytest.raises(ValueError, match=f"{tmp_path} is damaged: "):
        pool([report], tmp_path / "pooled", "command")
