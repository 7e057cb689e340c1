"""Who sits opposite the learners of a run: scripted players, frozen models, and the language models of other runs."""

from collections.abc import Sequence
import dataclasses
import os

from negot_jax.game import buyers
from negot_jax.game.buyers import Buyer
from negot_jax.game.types import BUYER
from negot_jax.language import hf_tokenizer
from negot_jax.language import tokenizer as tokenizers
from negot_jax.language.dialect import Dialect
from negot_jax.models import hf_config, stored
from negot_jax.models.presets import ModelConfig
from negot_jax.rl.configs import BuyerConfig
from negot_jax.rl.self_play import SelfPlayConfig
from negot_jax.rl.train_step import FrozenModel
from negot_jax.run import manifest
from negot_jax.run.config import Config, override
from negot_jax.training import checkpoint

TOKENIZER = "tokenizer.model"  # In the workdir, where the model brings none.


def require_seats(config: Config) -> None:
    """Raises ValueError for a run whose learners are not in their seats, or a section that nobody would read."""
    role, learns = config.learner.role, {"buyer": config.buyer, "seller": config.seller}
    if role == "buyer" and config.buyer != BuyerConfig():
        raise ValueError("config.buyer says whom a seller meets, but learner.role='buyer'. Leave config.buyer out.")
    if role != "both" and config.self_play != SelfPlayConfig():
        raise ValueError(f"config.self_play is read where both sides learn, but learner.role={role!r}. Leave it out.")
    if role == "both" and config.algorithm.kl != "none":
        raise ValueError(
            f"algorithm.kl={config.algorithm.kl!r} with learner.role='both': there is one reference policy, and two "
            "sides learn. Set algorithm.kl='none'."
        )
    for side in {"buyer": (), "seller": ("seller",), "both": ("buyer", "seller")}[role]:
        if (own := learns[side]).model != "own" or own.checkpoint:
            raise ValueError(
                f"learner.role={role!r} with {side}.model={own.model!r}, {side}.checkpoint={own.checkpoint!r}: the "
                f"{side} learns. Set {side}.model='own' without a checkpoint; config.model is its language model."
            )


def make(config: Config, role: int, model: ModelConfig, dialect: Dialect) -> FrozenModel | tuple[Buyer, ...] | None:
    """Who plays against a learner of a role, as `Program.opponent`.

    Raises ValueError if its checkpoint has another tokenizer than the learner's, or is a run without such a model.
    """
    side, own = ("seller", config.seller) if role == BUYER else ("buyer", config.buyer)
    if own.model == "scripted":
        return None if role == BUYER else tuple(map(buyers.make, own.policies))
    if own.model == "own" and config.learner.role == "both" and own.checkpoint is None:
        return FrozenModel(model, own.sampling, shared=False)
    if (folder := own.checkpoint) is None:
        return FrozenModel(_plain(model), own.sampling, shared=own.model == "base")
    if is_run(folder):
        theirs, spoken = _model_of_run(folder, side)
    else:
        theirs = hf_config.read(folder)
        spoken = hf_tokenizer.load(folder, theirs.vocab_size).token_bytes
    ours = dialect.tokenizer.token_bytes
    common = min(len(spoken), len(ours))
    if any(spoken[common:]) or any(ours[common:]) or spoken[:common] != ours[:common]:
        raise ValueError(
            f"{side}.checkpoint={folder} has another tokenizer than the learner's, but both read the same tokens. Use "
            "a checkpoint of the same family, or a run on the same catalog and language."
        )
    return FrozenModel(dataclasses.replace(theirs, remat="none"), own.sampling, shared=False)


def _model_of_run(folder: str, side: str) -> tuple[ModelConfig, Sequence[bytes]]:
    """The language model of a run's side, whether it learned or was met, adapters merged; and its tokens."""
    config = override(Config(), manifest.read(folder)["config"])
    own = getattr(config, side)
    if config.learner.role not in (side, "both") and (own.model == "scripted" or own.checkpoint):
        raise ValueError(
            f"{side}.checkpoint={folder} is a run whose {side} is {own.checkpoint or 'scripted'}. Name a checkpoint, "
            f"or a run with a {side} of its own."
        )
    model, path = config.model.config(), config.model.checkpoint
    ours = os.path.join(folder, TOKENIZER)
    tokenizer = hf_tokenizer.load(path, model.vocab_size) if path else tokenizers.load(ours)
    return dataclasses.replace(_plain(model), vocab_size=tokenizer.vocab_size), tokenizer.token_bytes


def _plain(model: ModelConfig) -> ModelConfig:
    """Without adapters."""
    return dataclasses.replace(model, lora=dataclasses.replace(model.lora, rank=0))


def is_run(folder: str) -> bool:
    """Whether a folder is a run's, not a checkpoint's."""
    return os.path.exists(os.path.join(folder, manifest.FILE))


def digest(folder: str) -> str:
    """A digest of a checkpoint's content, or of a run and how far it has come."""
    if not is_run(folder):
        return stored.digest(folder)
    latest = max(checkpoint.survey(os.path.join(folder, "checkpoints"))[0], default=0)
    return manifest.digest(f"{manifest.read(folder)['run_id']} after {latest}".encode())
