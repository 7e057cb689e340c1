"""Where the metrics of a run go: `metrics.csv`, TensorBoard, and a progress bar."""

from collections.abc import Mapping, Sequence
import csv
import io
import os
import pathlib

import numpy as np
import tensorboardX
import tqdm

from negot_jax.training.manifest import write_atomically

_INDEX = "iteration"


def reduce(metrics: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Returns sum / weight of each metric, and leaves out those of weight 0, which have no value."""
    return {name: float(total) / float(weight) for name, (total, weight) in metrics.items() if weight != 0}


def read_csv(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads a `metrics.csv`. Returns float64[rows] by column, nan where a row has no value."""
    columns, rows = _read(pathlib.Path(path))
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in columns}


class MetricWriter:
    """Writes scalars by iteration to every sink. A context manager; use it on one process only.

    Args:
      workdir: gets `metrics.csv` and the TensorBoard events in `tensorboard/`.
      total: iterations of the whole run, the length of the progress bar.
      start: the iteration to be written first. A run that resumes here loses the rows of later iterations, which
        it will write again, and a row torn by the interruption.
      shown: the names of the metrics to show beside the progress bar.
    """

    def __init__(self, workdir: str | os.PathLike, total: int, start: int = 0, shown: Sequence[str] = ("reward",)):
        workdir = pathlib.Path(workdir)
        workdir.mkdir(parents=True, exist_ok=True)
        self._csv = _CsvFile(workdir / "metrics.csv", start)
        # The suffix keeps apart two starts within a second, which is the resolution of the file names.
        self._tensorboard = tensorboardX.SummaryWriter(
            str(workdir / "tensorboard"), purge_step=start, filename_suffix=f".{start:08d}"
        )
        self._bar = tqdm.tqdm(total=total, initial=start, unit="it", dynamic_ncols=True)
        self._shown = tuple(shown)

    def write(self, iteration: int, scalars: Mapping[str, float]) -> None:
        """Writes one iteration's scalars, finite or not. Names may come and go between iterations."""
        self._csv.write(iteration, scalars)
        for name, value in scalars.items():
            self._tensorboard.add_scalar(name, value, iteration)
        self._bar.set_postfix({name: f"{scalars[name]:.3g}" for name in self._shown if name in scalars}, refresh=False)
        self._bar.update()

    def close(self) -> None:
        self._csv.close()
        self._tensorboard.close()
        self._bar.close()

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(self, *_) -> None:
        self.close()


class _CsvFile:
    """A table that grows by a row at a time, and is rewritten whole when a row brings a new column."""

    def __init__(self, path: pathlib.Path, start: int):
        self._path = path
        columns, rows = _read(path) if path.exists() else ([], [])
        rows = [row for row in rows if int(row[_INDEX]) < start]
        self._rewrite(columns if rows else [], rows)

    def write(self, iteration: int, scalars: Mapping[str, float]) -> None:
        # Nine digits tell any two float32 apart.
        row = {_INDEX: iteration, **{name: format(value, ".9g") for name, value in scalars.items()}}
        if row.keys() - set(self._columns):
            self.close()
            _, rows = _read(self._path)
            self._rewrite([*self._columns, *row], rows)
        csv.DictWriter(self._file, self._columns).writerow(row)
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _rewrite(self, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
        # The iteration first, then the names of no group, then group by group ("time/step").
        self._columns = sorted({_INDEX, *columns}, key=lambda name: (name != _INDEX, "/" in name, name))
        text = io.StringIO()
        if columns:
            writer = csv.DictWriter(text, self._columns)
            writer.writeheader()
            writer.writerows(rows)
        write_atomically(self._path, text.getvalue())
        self._file = self._path.open("a", newline="")


def _read(path: pathlib.Path) -> tuple[list[str], list[dict[str, str]]]:
    """Returns the columns and the whole rows; a last line without its line break was torn and is left out."""
    with path.open(newline="") as file:
        reader = csv.DictReader([line for line in file if line.endswith("\n")])
        return list(reader.fieldnames or []), list(reader)
