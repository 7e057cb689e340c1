"""A run as an object: its folder, its identity and its parts. Every command goes through it, and so can a notebook."""

from collections.abc import Callable, Mapping
import functools
import os
from typing import Any

from etils import epath
import jax

from negot_jax.game.types import BUYER, SELLER, SIDES
from negot_jax.language import tokenizer as tokenizers
from negot_jax.language.dialect import Dialect, Own
from negot_jax.models import hf_checkpoint, hf_config
from negot_jax.run import assembly, folder, manifest, opponents, reporting, training, weights
from negot_jax.run import config as configs
from negot_jax.run.assembly import Parts
from negot_jax.run.config import Config
from negot_jax.training import distributed, metrics, storage


class Run:
    """A run in a folder; made by `build` or `open`.

    Attributes:
      workdir: its folder. config: its configuration. saved: its manifest, None before the first start.
      replaces: whether another run, which has trained nothing yet, gives way to it when training starts.
      parts: catalog, tables and program, built when first asked for. run_id: names it in its checkpoints.
    """

    def __init__(self, workdir: epath.Path, config: Config, saved: dict[str, Any] | None, replaces: bool = False):
        self.workdir, self.config, self.saved, self.replaces = workdir, config, saved, replaces

    @functools.cached_property
    def parts(self) -> Parts:
        parts = assembly.assemble(self.config, None if self.replaces else self.saved_dialect())
        if self.saved is not None:
            manifest.require_inputs(self.workdir, self.saved, parts.inputs())
        return parts

    def saved_dialect(self) -> Dialect | None:
        """The dialect that the run has trained for itself; None where there is none yet, or a checkpoint brings it."""
        path = self.workdir / opponents.TOKENIZER
        return Own(tokenizers.load(path)) if self.config.model.checkpoint is None and path.exists() else None

    @functools.cached_property
    def run_id(self) -> str:
        return self.saved["run_id"] if self.saved else manifest.run_id(self.config, self.parts.inputs())

    def train(self, profile: tuple[int, int] | None = None) -> None:
        """Trains to the end, resuming from what the folder holds: warm start, then reinforcement learning.

        profile: the first and the last iteration to trace into `profile/`. Raises FolderError if another process is
        training in the folder, or it cannot be written to; otherwise as `training.loop.train`.
        """
        with folder.sole_use(self.workdir):
            self._record_start()
            with jax.set_mesh(self.parts.mesh):
                training.train(self, profile)

    prepare_evaluation = reporting.prepare

    def evaluate(
        self,
        overrides: Mapping[str, Any] | None = None,
        output: str | os.PathLike | None = None,
        every_checkpoint: bool = False,
    ) -> reporting.Report:
        """Plays what was trained last, and others, on held-out products; writes a report. See `reporting.prepare`."""
        return self.prepare_evaluation(overrides, output, every_checkpoint).report()

    def export(self, output: str | os.PathLike, role: str | None = None) -> int:
        """Writes the latest learner as a Hugging Face checkpoint; returns its iteration. See `prepare_export`."""
        return self.prepare_export(output, role)()

    def prepare_export(self, output: str | os.PathLike, role: str | None = None) -> Callable[[], int]:
        """Checks an export; returns what writes the latest whole checkpoint, and returns the iteration of that.

        Adapters are merged into their matrices. Weights are written in the original checkpoint's type, and its
        configuration and tokenizer files are copied, so that `transformers` and serving engines load the folder.

        role: "buyer" or "seller", where both have learned; by default the buyer.

        Raises ValueError if the side has not learned, its model did not begin as a published checkpoint, or the output
        is in a bucket or not empty; what is returned raises CheckpointError if no checkpoint is whole.
        """
        own = self.config.learner.role
        learned = SIDES if own == "both" else (own,)
        if role not in (None, *learned):
            raise ValueError(f"--role={role}: {self.workdir} has trained the {own} alone. Leave --role out.")
        target = folder.local_folder(output, "--output")
        if self.config.model.checkpoint is None:
            raise ValueError(
                f"--workdir={self.workdir}: its model did not begin as a published checkpoint, so there is no format "
                "to write it in. Export is for runs with --config.model.checkpoint."
            )
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise ValueError(f"--output={output} is not an empty folder. Name a new folder.")
        parts, side = self.parts, BUYER if (role or learned[0]) == "buyer" else SELLER

        def export() -> int:
            original = parts.config.model.checkpoint  # On this machine, where the configuration names a bucket.
            with jax.set_mesh(parts.mesh):
                saved = weights.restore(parts, self.workdir, self.run_id)
                whole = weights.merged(parts.programs[side], saved.trained(side), saved.frozen)
                stored = hf_config.read(original).dtype
                whole = jax.tree.map(lambda x: x.astype(stored), whole)
                hf_checkpoint.save(target, parts.programs[side].model, whole, original)
            return saved.latest

        return export

    def _record_start(self) -> None:
        """Enters this start into the manifest; on many processes the first writes, once all have read.

        Raises ValueError if the folder now holds another run, or is another one for each machine.
        """
        parts, inputs = self.parts, self.parts.inputs()
        facts = {"train": len(parts.train), "test": len(parts.test), "train_mutual": int(parts.train.mutual.sum())}
        distributed.wait("run prepared")
        if distributed.is_first():
            if self.replaces and not folder.has_trained(self.workdir):
                for name in (manifest.FILE, opponents.TOKENIZER, metrics.METRICS):
                    (self.workdir / name).unlink(missing_ok=True)
                if (kept := self.workdir / training.TRANSCRIPTS).exists():
                    kept.rmtree()
            elif (now := _read_manifest(self.workdir, self.config)) is not None:  # Another start may have come first.
                manifest.require_inputs(self.workdir, now, inputs)
            manifest.record_start(self.workdir, self.config, inputs, facts)
            if self.config.model.checkpoint is None and not (path := self.workdir / opponents.TOKENIZER).exists():
                storage.write_atomically(path, parts.dialect.tokenizer.model)
            (self.workdir / folder.MARKER).unlink(missing_ok=True)
        distributed.wait("run recorded")
        if distributed.agree(not (self.workdir / manifest.FILE).exists()):
            raise folder.FolderError(
                f"--workdir={self.workdir}: not every process sees what the first has written there. All need the same "
                "folder, such as one of a bucket, gs://bucket/run."
            )
        self.saved = manifest.read(self.workdir)


def build(config: Any, workdir: str | os.PathLike) -> Run:
    """A run to be trained; one that its folder holds already will resume. Writes nothing.

    config: any form of `config.load`. workdir: the run's folder, local or gs://.

    Raises ValueError or TypeError for fields that do not fit one another, the catalog, a checkpoint, or the run in the
    folder; or a damaged file of the folder.
    """
    workdir = folder.workdir(workdir)
    folder.require_writable(workdir, "--workdir")
    config = assembly.with_absolute_paths(configs.load(config))
    opponents.require_seats(config)
    saved = _read_manifest(workdir, config)
    metrics.curves(workdir)  # Damage is better known now than after training.
    run = Run(workdir, config, saved, replaces=saved is None and (workdir / manifest.FILE).exists())
    run.parts  # noqa: B018, built now, for its errors.
    return run


def check(config: Any, devices: int = 0) -> dict[str, str]:
    """Checks a configuration for so many devices, without them: see `assembly.check`. Errors are those of `build`.

    Returns the paths of the inputs that it names, by field.
    """
    config = configs.load(config)
    opponents.require_seats(config)
    assembly.check(assembly.with_absolute_paths(config), devices)
    return {name: path for name, path in configs.flat(config).items() if name in configs.PATHS and path}


def open(workdir: str | os.PathLike, overrides: Mapping[str, Any] | None = None) -> Run:
    """The run that a folder holds, to be evaluated, exported or resumed.

    overrides: fields that may differ from the run's last start, by dotted name: the mesh, say, or where an input is.

    Raises ValueError if there is no run, or its manifest is damaged, or an override would make it another run.
    """
    workdir = folder.workdir(workdir)
    if not (workdir / manifest.FILE).exists():
        raise ValueError(f"--workdir={workdir} holds no run: no {manifest.FILE}. Train one with experiments.train.")
    saved = manifest.read(workdir)
    config = configs.override(Config(), saved["config"])
    config = assembly.with_absolute_paths(configs.override(config, overrides or {}))
    if changed := manifest.changed_fields(saved, config):
        raise ValueError(f"the run in {workdir} would be another one with {'; '.join(changed)}. Leave that out.")
    return Run(workdir, config, saved)


def _read_manifest(workdir: epath.Path, config: Config) -> dict[str, Any] | None:
    """The manifest of the run to resume; None where there is none, or none that has trained anything.

    Raises ValueError if it is damaged, or of a run that learns from something else.
    """
    if not (workdir / manifest.FILE).exists():
        return None
    saved = manifest.read(workdir)
    if not (changed := manifest.changed_fields(saved, config)):
        return saved
    if not folder.has_trained(workdir):
        print(f"{workdir} holds a run that had trained nothing yet; it is replaced ({'; '.join(changed)}).")
        return None
    raise ValueError(
        f"{workdir / manifest.FILE} belongs to another run, which differs in {'; '.join(changed)}. Resume with the "
        "saved values, or start over with another --workdir."
    )
