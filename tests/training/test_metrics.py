"""Metrics: the table on disk under resumption, new columns and torn lines; TensorBoard; the reduction."""

import csv
import math
import resource

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from negot_jax.training import metrics


def write(workdir, rows, start=0):
    with metrics.MetricWriter(workdir, total=9, start=start) as writer:
        for iteration, scalars in rows:
            writer.write(iteration, scalars)


def lines(workdir):
    return (workdir / "metrics.csv").read_text().splitlines()


def test_columns_are_sorted_and_values_read_back(tmp_path):
    write(tmp_path, [(0, {"time/step": 2.0, "reward": np.float32(0.1), "deal_rate": 1}), (1, {"reward": -0.5})])
    assert lines(tmp_path) == ["iteration,deal_rate,reward,time/step", "0,1,0.100000001,2", "1,,-0.5,"]
    table = metrics.read_csv(tmp_path / "metrics.csv")
    assert list(table) == ["iteration", "deal_rate", "reward", "time/step"]
    np.testing.assert_array_equal(table["reward"].astype(np.float32), np.float32([0.1, -0.5]))
    np.testing.assert_array_equal(table["deal_rate"], [1, np.nan])


def test_a_metric_that_appears_late_widens_the_table(tmp_path):
    write(tmp_path, [(0, {"reward": 1.0}), (1, {"reward": 2.0, "eval/reward": 3.0}), (2, {"reward": 4.0})])
    assert lines(tmp_path) == ["iteration,reward,eval/reward", "0,1,", "1,2,3", "2,4,"]


def test_non_finite_values_are_written_as_such(tmp_path):
    write(tmp_path, [(0, {"a": math.nan, "b": math.inf, "reward": -math.inf})])
    assert lines(tmp_path)[1] == "0,nan,inf,-inf"


@pytest.mark.parametrize("torn", ["", "3", "3,1", '3,"0.1'])
@pytest.mark.parametrize("start", [0, 1, 3])
def test_resume_drops_later_rows_and_torn_lines(tmp_path, start, torn):
    rows = [(i, {"reward": i / 8, "loss": -i}) for i in range(6)]
    write(tmp_path, rows[:3])
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write(torn)
    write(tmp_path, rows[start:], start)
    assert lines(tmp_path) == ["iteration,loss,reward", *(f"{i},{-i:g},{i / 8:g}" for i in range(6))]


def test_a_run_started_anew_forgets_the_old_columns(tmp_path):
    write(tmp_path, [(0, {"old": 1.0})])
    write(tmp_path, [(0, {"new": 1.0})])
    assert lines(tmp_path) == ["iteration,new", "0,1"]


def test_tensorboard_has_each_scalar_once_after_a_resume(tmp_path):
    write(tmp_path, [(i, {"reward": float(i)}) for i in range(4)])
    write(tmp_path, [(i, {"reward": 10.0 * i}) for i in range(2, 5)], start=2)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("reward")
    assert [(event.step, event.value) for event in events] == [(0, 0.0), (1, 1.0), (2, 20.0), (3, 30.0), (4, 40.0)]


@given(st.dictionaries(st.text(), st.tuples(st.floats(-1e6, 1e6), st.integers(0, 5))))
def test_reduce_is_the_mean_where_there_is_one(sums):
    reduced = metrics.reduce({name: (np.float64(total), np.int32(weight)) for name, (total, weight) in sums.items()})
    assert reduced == {name: total / weight for name, (total, weight) in sums.items() if weight > 0}
    assert all(type(value) is float for value in reduced.values())


def test_the_table_is_plain_csv(tmp_path):
    write(tmp_path, [(0, {"a,b": 1.0})])
    with (tmp_path / "metrics.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["iteration", "a,b"], ["0", "1"]]


@pytest.mark.parametrize("row", ["1", "1,2,3", "x,2", "1,\0\0", "\0\0,\0", "1,two", ","])
def test_a_damaged_table_is_refused_by_line(tmp_path, row):
    """Reading it, and before anything of it is overwritten."""
    path = tmp_path / "metrics.csv"
    path.write_text(damaged := f"iteration,reward\n0,1\n{row}\n2,3\n")
    with pytest.raises(ValueError, match=f"{path}, line 3: .*damaged. Put a copy back, or delete it"):
        metrics.read_csv(path)
    with pytest.raises(ValueError, match="line 3"):
        write(tmp_path, [], start=3)
    assert path.read_text() == damaged


@pytest.mark.parametrize("content", ["", "\0" * 40, "0,1\n1,2\n"])
def test_a_table_without_a_header_is_refused(tmp_path, content):
    path = tmp_path / "metrics.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"{path}, line 1: no header, .*damaged. Put a copy back, or delete it"):
        write(tmp_path, [], start=2)
    assert path.read_text() == content


def test_a_start_that_wrote_nothing_can_be_repeated(tmp_path):
    write(tmp_path, [], start=2)
    write(tmp_path, [(2, {"reward": 1.0})], start=2)
    assert lines(tmp_path) == ["iteration,reward", "2,1"]


@pytest.mark.parametrize("limit", [200, 2000])
def test_a_full_disk_is_an_error_at_once_and_costs_no_row_but_the_torn_one(tmp_path, limit):
    """TensorBoard's file, which grows faster, and the table: no file may grow beyond `limit` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    names = [f"metric/{i}" for i in range(9)] if limit == 200 else ["a"]
    row = lambda i: {name: i / 7 for name in names}
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        with pytest.raises(OSError, match="File too large"):
            write(tmp_path, [(i, row(i)) for i in range(1000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    written = len(metrics.read_csv(tmp_path / "metrics.csv").get("iteration", []))
    write(tmp_path, [(i, row(i)) for i in range(written, 300)], start=written)
    np.testing.assert_array_equal(metrics.read_csv(tmp_path / "metrics.csv")["iteration"], np.arange(300))
