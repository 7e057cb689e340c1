"""Tables: what each column shows, the width of the terminal, Markdown and JSON."""

import dataclasses
import json

import numpy as np
import pytest

from negot_jax.evaluation import tables
from negot_jax.evaluation.episodes import TRAINED, Row
from negot_jax.evaluation.statistics import Interval, Summary
from negot_jax.game import rewards
from negot_jax.game.types import Outcome

SETTINGS = tables.Settings(
    catalog="generated",
    products=128,
    episodes=8,
    prices="normalized",
    decoding="constrained",
    seller="neutral",
    runs=tuple(tables.TrainedRun(f"run {seed}", seed, 60) for seed in range(3)),
    identity={"game.turns": 6, "evaluation.sampling.temperature": 0.5},
    command="python -m experiments.evaluate --workdir=runs/quickstart",
)
BASELINE = Row("scripted", "a|b")
COMPARED = (tables.DIFFERENCE, tables.GAP, tables.HEADROOM)
NAMES = [metric for columns in tables.TABLES.values() for metric, _ in columns.values() if metric not in COMPARED]
NAMES += ["overshoot"]
RATE, MEAN = Interval(0.998, 0.995, 1.0, 1024), Interval(-0.9, -0.955, -0.845, 1024)


@pytest.fixture
def summary():
    trained = {name: Interval(0.5, 0.4, 0.6, 1024) for name in NAMES}
    styles = {metric: style for columns in tables.TABLES.values() for metric, style in columns.values()}
    baseline = {name: MEAN if styles.get(name) is tables.plain else RATE for name in NAMES} | {"bargained_ratio": None}
    return Summary(
        {TRAINED: trained, BASELINE: baseline}, {BASELINE: Interval(-1.4, -1.5, 0.01, 1024)}, {}, {}, TRAINED
    )


def test_every_column_is_a_metric_of_the_game():
    outcome = Outcome(
        **{
            field.name: np.zeros(2, bool if field.name in ("mutual", "failed") else np.int32)
            for field in dataclasses.fields(Outcome)
        }
        | {"acts": np.zeros((2, 6), np.int32)}
    )
    assert set(NAMES) <= {"complete", *rewards.metrics(outcome)}


@pytest.mark.parametrize(
    ("style", "interval", "expected"),
    [
        (tables.plain, Interval(0.7664, 0.741, 1.0, 9), "0.766 [.741, 1.000]"),
        (tables.plain, Interval(-0.113, -0.2, 10.0, 9), "-0.113 [-.200, 10.000]"),
        (tables.signed, Interval(0.1, -0.05, 0.25, 9), "+0.100 [-.050, +.250]"),
        (tables.signed, Interval(-0.0001, -0.0002, 0.0001, 9), "+0.000 [+.000, +.000]"),
        (tables.percent, Interval(0.9199, 0.901, 0.996, 9), "92.0 [90, 99.6]"),
        (tables.percent, Interval(0.001, 0.0, 0.003, 9), "0.1 [0.0, 0.3]"),
        (tables.percent, Interval(1.0, 1.0, 1.0, 9), "100.0 [100.0, 100.0]"),
    ],
)
def test_numbers(style, interval, expected):
    assert style(interval) == expected


def test_cells_hold_the_difference_and_a_mark_for_what_is_missing(summary):
    trained, baseline = tables.cells(summary, tables.TABLES["Results"])
    assert trained["buyer"] == "trained" and trained["Δ reward"] == tables.MISSING
    assert baseline["Δ reward"] == "-1.400 [-1.500, +.010]"
    assert baseline["bargained ratio"] == tables.MISSING


def test_text_keeps_to_the_terminal_and_keeps_every_number(summary):
    long = Row("scripted", "a name that is far too long for its column")
    summary.metrics[long] = summary.metrics[BASELINE]
    summary.differences[long] = summary.differences[BASELINE]
    text = tables.text(summary, SETTINGS)
    assert max(map(len, text.splitlines())) <= tables.WIDTH
    for columns in tables.TABLES.values():
        for row in tables.cells(summary, columns):
            assert all(cell in text for header, cell in row.items() if header != "buyer")


def test_markdown_rows_have_as_many_cells_as_the_header(summary):
    markdown = tables.markdown(summary, SETTINGS)
    lines = [line.replace(r"\|", "") for line in markdown.splitlines() if line.startswith("|")]
    shown = tables.shown(summary).values()
    assert len(lines) == len(shown) * (2 + 2)
    assert [line.count("|") for line in lines] == [len(columns) + 2 for columns in shown for _ in range(4)]
    assert f"`{SETTINGS.command}`" in markdown


def test_caption_names_what_flatters_the_numbers(summary):
    caption = tables.caption(summary, SETTINGS)
    for fact in (
        "normalized to the list price",
        "constrained by the grammar at temperature 0.5",
        "products and training runs",
        "0, 1, 2",
    ):
        assert fact in caption
    plain = dataclasses.replace(SETTINGS, prices="dollars", decoding="free", runs=SETTINGS.runs[:1], identity={})
    caption = tables.caption(summary, plain)
    for fact in ("in dollars", "decoding free,", "over products (", "training seed 0"):
        assert fact in caption


def test_the_best_response_is_explained_only_where_it_is_shown(summary):
    sellers = dataclasses.replace(SETTINGS, seller="", buyer="linear")
    for gaps in ({summary.reference: Interval(0.1, 0.0, 0.2, 9)}, {}):
        caption = tables.caption(dataclasses.replace(summary, gaps=gaps), sellers)
        assert ("best ladders of asks" in caption) == bool(gaps)


def test_saved_json_holds_everything_and_no_nan(summary, tmp_path):
    tables.save(tmp_path / "report", summary, SETTINGS)
    saved = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    assert [run["seed"] for run in saved["settings"]["runs"]] == [0, 1, 2]
    assert saved["settings"]["prices"] == "normalized" and saved["reference"] == "trained"
    trained, baseline = saved["rows"]
    assert (trained["kind"], trained["label"], trained["differences"]) == ("trained", "trained", None)
    assert trained["metrics"]["reward"] == {"value": 0.5, "low": 0.4, "high": 0.6, "n": 1024}
    assert (baseline["kind"], baseline["name"], baseline["parameters"]) == ("scripted", "a|b", {})
    assert baseline["metrics"]["bargained_ratio"] is None
    assert baseline["differences"] == {"value": -1.4, "low": -1.5, "high": 0.01, "n": 1024}
    assert (tmp_path / "report" / "table.md").read_text() == tables.markdown(summary, SETTINGS)
    summary.metrics[TRAINED]["reward"] = Interval(float("nan"), 0.0, 0.0, 1)
    with pytest.raises(ValueError):
        tables.save(tmp_path, summary, SETTINGS)


def test_strays_have_a_table_where_there_are_any(summary):
    shown = tables.markdown(summary, SETTINGS)
    assert "illegal moves replaced" in shown and "Format errors of the buyer" in shown
    assert "| 512 |" in shown.replace(" ", "").replace("|", " | ")
    nothing = dict.fromkeys(NAMES, Interval(0.0, 0.0, 0.0, 1024)) | {"high_asks": None}
    nothing["complete"] = Interval(1.0, 0.9, 1.0, 1024)
    quiet = tables.markdown(dataclasses.replace(summary, metrics=dict.fromkeys(summary.metrics, nothing)), SETTINGS)
    assert "illegal" not in quiet and "Format errors" not in quiet and "incomplete" not in quiet


def test_three_sentences_come_first(summary):
    told = tables.paragraph(summary)
    assert told.startswith("The trained buyer earns a mean reward of 0.500 [.400, .600]. It closes 50.0 [40, 60] % of")
    assert told.endswith("Its lead is +1.400 [-.010, +1.500] on a|b, the best scripted buyer.")
    start, gap = Row("start", "warm start"), Interval(0.1, 0.05, 0.15, 1024)
    solved = Summary(
        summary.metrics | {start: summary.metrics[BASELINE]},
        {start: Interval(-0.1, -0.2, -0.05, 1024)},
        {TRAINED: gap},
        {TRAINED: gap},
        TRAINED,
    )
    told = tables.paragraph(solved)
    assert (
        "0.500 [.400, .600], +0.100 [+.050, +.200] on warm start." in told and "10.0 [5.0, 15] % is recovered" in told
    )
    for whole in (tables.text(summary, SETTINGS), tables.markdown(summary, SETTINGS)):
        assert whole.startswith("The trained buyer earns")


def test_the_best_response_has_a_table_where_it_was_played(summary):
    assert "headroom" not in tables.text(summary, SETTINGS)
    gap, share = Interval(0.1, 0.05, 0.15, 1024), Interval(0.42, 0.2, 0.6, 1024)
    solved = dataclasses.replace(summary, gaps={TRAINED: gap}, headroom={TRAINED: share})
    settings = dataclasses.replace(SETTINGS, bounds=(0.4, 0.45, 0.6))
    written = tables.markdown(solved, settings)
    assert "0.100 [.050, .150]" in written and "42.0 [20, 60]" in written
    assert "it earns 0.400" in written and "more than 0.450" in written and "more than 0.600" in written
