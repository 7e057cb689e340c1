"""Where the metrics of a run go: `metrics.csv`, TensorBoard, and a progress bar."""

from collections.abc import Mapping, Sequence
import contextlib
import csv
import io
import os
import pathlib
import sys
import time

from etils import epath
import numpy as np

from negot_jax import progress
from negot_jax.training import storage

# tensorboardX imports torch if it is installed, for seconds and for nothing that is used here.
sys.modules.setdefault("torch", None)
from tensorboardX import event_file_writer, summary  # noqa: E402
from tensorboardX.proto import event_pb2  # noqa: E402

if sys.modules["torch"] is None:
    del sys.modules["torch"]

_INDEX = "iteration"
METRICS = "metrics.csv"  # In the workdir.
_WAY_OUT = "Put a copy back, or delete it: the run then goes on without the curves of its earlier iterations."


def reduce(metrics: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Sum / weight of each metric, without those of weight 0, which have no value."""
    return {name: float(total) / float(weight) for name, (total, weight) in metrics.items() if weight != 0}


def read_csv(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads a `metrics.csv`: float64[rows] by column, nan where a row has no value. ValueError: it is damaged."""
    columns, rows = _read(epath.Path(path))
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in columns}


def curves(workdir: str | os.PathLike) -> dict[str, np.ndarray] | None:
    """The columns of a run's `metrics.csv`, as `read_csv`; None where it is missing or has no row yet."""
    path = epath.Path(workdir) / METRICS
    columns = read_csv(path) if path.exists() else {_INDEX: []}
    return columns if len(columns[_INDEX]) else None


class MetricWriter(contextlib.AbstractContextManager):
    """Writes scalars by iteration to `metrics.csv`, to TensorBoard and, some, to a progress bar; on one process only.

    workdir: where the files are; a bucket gets them at every iteration. total: iterations of the whole run. start: the
    first iteration to be written; rows of later ones, and a row torn by the interruption, are dropped.

    Raises OSError if a sink cannot be written, now or later, and ValueError if `metrics.csv` is damaged.
    """

    def __init__(self, workdir: str | os.PathLike, total: int, start: int = 0, shown: Sequence[str] = ("reward",)):
        self._workdir, self._shown, self._open = workdir, shown, contextlib.ExitStack()
        self._local = self._open.enter_context(storage.staged(workdir))
        if storage.is_remote(workdir) and (saved := epath.Path(workdir) / METRICS).exists():
            (self._local / METRICS).write_bytes(saved.read_bytes())
        self._csv = self._open.enter_context(contextlib.closing(_CsvFile(self._local / METRICS, start)))
        (self._local / "tensorboard").mkdir(exist_ok=True)
        # Written at once: a writer thread would die of a full disk and leave the run waiting. File names resolve
        # seconds; the suffix keeps two starts within one apart.
        self._events = event_file_writer.EventsWriter(str(self._local / "tensorboard/events"), f".{start:08d}")
        self._open.callback(self._events.close)
        # Makes TensorBoard drop what an earlier start wrote of this iteration and later ones.
        self._add_event(start, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))
        self._events.flush()
        self._bar = self._open.enter_context(progress.Bar("training", total, start))

    def write(self, iteration: int, scalars: Mapping[str, float]) -> None:
        """Writes one iteration's scalars, finite or not. Names may come and go between iterations."""
        self._csv.write(iteration, scalars)
        for name, value in scalars.items():
            self._add_event(iteration, summary=summary.scalar(name, value))
        self._events.flush()
        if storage.is_remote(self._workdir):
            storage.upload(self._local, self._workdir)
        self._bar.update(scalars, self._shown)

    def _add_event(self, iteration: int, **content) -> None:
        self._events.write_event(event_pb2.Event(wall_time=time.time(), step=iteration, **content))

    def __exit__(self, *_) -> None:
        self._open.close()


class _CsvFile:
    """A table that grows by a row at a time, and is rewritten whole when a row brings a new column."""

    def __init__(self, path: pathlib.Path, start: int):
        self._path = path
        columns, rows = _read(path) if start and path.exists() else ([], [])
        rows = [row for row in rows if int(row[_INDEX]) < start]
        self._rewrite(columns if rows else [], rows)

    def write(self, iteration: int, scalars: Mapping[str, float]) -> None:
        # Nine digits tell any two float32 apart.
        row = {_INDEX: iteration, **{name: format(value, ".9g") for name, value in scalars.items()}}
        if row.keys() - set(self._columns):
            self.close()
            self._rewrite([*self._columns, *row], _read(self._path)[1])
        csv.DictWriter(self._file, self._columns).writerow(row)
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _rewrite(self, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
        # The iteration first, then the names of no group, then group by group ("time/step").
        self._columns = sorted({_INDEX, *columns}, key=lambda name: (name != _INDEX, "/" in name, name))
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns)
        writer.writeheader()
        writer.writerows(rows)
        storage.write_atomically(self._path, text.getvalue())
        self._file = self._path.open("a", encoding="utf-8", newline="")


def _read(path: pathlib.Path | epath.Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns and the whole rows, without a torn last line, which lacks its line break."""
    text = path.read_bytes().decode(errors="replace")
    columns, *lines = list(csv.reader(line for line in io.StringIO(text, newline="") if line.endswith("\n"))) or [[]]
    if _INDEX not in columns:
        raise ValueError(f"{path}, line 1: no header, the file is damaged. {_WAY_OUT}")
    rows = []
    for number, cells in enumerate(lines, start=2):
        try:
            rows.append(row := dict(zip(columns, cells, strict=True)))
            int(row[_INDEX]), [float(cell) for cell in cells if cell]
        except ValueError:
            raise ValueError(f"{path}, line {number}: not a row of numbers, the file is damaged. {_WAY_OUT}") from None
    return columns, rows
