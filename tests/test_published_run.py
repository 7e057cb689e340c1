"""From a published checkpoint to a training run and back: trained here, exported, and loaded by `transformers`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.configs import gemma3_27b, paper_30b, qwen3_4b, smollm2_135m
from negot_jax import run
from negot_jax.game.types import BUYER, SELLER
from negot_jax.models import hf_checkpoint, hf_config, lora, sharding
from negot_jax.models.sampling import SamplingConfig
from negot_jax.rl import players, rollout
from negot_jax.run import match as matches
from negot_jax.run import weights
from negot_jax.run.assembly import Parts, assemble
from negot_jax.run.config import Config, load, override
from negot_jax.training.metrics import read_csv
from tests.language import vocabularies
from tests.models import published
from tests.models.published import torch, transformers

TOKENS = 64
OVERRIDES = {
    "catalog.name": "generated",
    "catalog.test": 8,
    "game.turns": 2,
    "language.text_tokens": 8,
    "language.prompts": "compact",
    "language.message_tokens": TOKENS,
    "language.decoding": "constrained",
    "seller.message_tokens": TOKENS,
    "model.dtype": "float32",
    "model.matmul": "float32",
    "warm_start.steps": 0,
    "algorithm.importance_cap": 2.0,
    "learner.scenarios": 4,
    "learner.group": 2,
    "learner.minibatches": 2,
    "learner.micro_batches": 1,
    "learner.widths": 1,
    "optimizer.learning_rate": 0.01,
    "training.iterations": 3,
    "training.checkpoint_every": 2,
}
CASES = {
    "llama-scripted": ("llama-scaled-rope", vocabularies.qwen3, smollm2_135m, "scripted"),
    "moe-lora": ("qwen3-moe-8", vocabularies.qwen3, paper_30b, "lora"),
    "gemma3-full": ("gemma3-7-layers", vocabularies.gemma3, gemma3_27b, "full"),
    "qwen3-lora": ("qwen3-tied-6-heads", vocabularies.qwen3, qwen3_4b, "lora"),
    "llama-lora": ("llama-scaled-rope", vocabularies.qwen3, smollm2_135m, "lora"),
}


def _config(module, method: str, **overrides) -> Config:
    return override(load(module.get_config(method)), OVERRIDES | overrides)


def _greedy_message(parts: Parts, weights) -> tuple[list[int], list[int]]:
    """The most likely first message to a product of the test set: the tokens before it, and its own."""
    tables = parts.test_tables.replace(buyer=parts.test_tables.buyer.replace(form=None))
    scenarios = rollout.sample_scenarios(jax.random.key(0), tables, 1)
    buyer = players.LanguageModelPlayer(BUYER, parts.program.model, weights, SamplingConfig(temperature=0.0))
    seated = (buyer, players.scripted_seller(tables))
    dialogue = jax.jit(lambda: rollout.rollout(jax.random.key(0), tables, scenarios, 1, *seated).dialogue(BUYER))()
    start = tables.buyer.layout.start(0)
    tokens, valid = np.asarray(dialogue.tokens_BxT)[0], np.asarray(dialogue.valid_BxT)[0]
    said = np.asarray(dialogue.sampled_BxKxW)[0, 0]
    return tokens[:start][valid[:start]].tolist(), tokens[start : start + TOKENS][said].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_trained_here_and_greedy_there(name, tmp_path, capsys):
    case, tokenizer, module, method = CASES[name]
    folder = tmp_path / "model"
    folder.mkdir()
    checkpoint = str(published.with_tokenizer(case, tokenizer, folder))
    buyer = run.build(_config(module, method, **{"model.checkpoint": checkpoint}), tmp_path / "run")
    parts = buyer.parts
    assert parts.dialect.ends == ("<end_of_turn>" if "gemma3" in name else "<|im_end|>")
    buyer.train()
    assert ("--config.model.replay_experts prevents it" in capsys.readouterr().out) == (name == "moe-lora")
    curves = read_csv(tmp_path / "run/metrics.csv")
    assert len(curves["loss"]) == 3 and (curves["sampler_gap"] < 1e-4).all()
    assert "importance_weight" in curves and not (tmp_path / "run/warm_start").exists()

    moved = folder.rename(tmp_path / "moved")
    there = run.open(tmp_path / "run", {"model.checkpoint": str(moved)})
    assert there.export(tmp_path / "exported") == 3
    saved = weights.restore(there.parts, there.workdir, there.run_id, every_checkpoint=True)
    assert saved.start_name == "untrained" and list(saved.states) == [2, 3]
    began, ended = map(jax.tree.leaves, (saved.starts[BUYER], saved.trained(BUYER)))
    assert all(bool(jnp.any(a != b)) for a, b in zip(began, ended, strict=True))
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "exported")
    assert loaded.dtype == torch.float32 and (tmp_path / "exported/tokenizer.json").exists()

    context, ours = _greedy_message(parts, parts.program.whole(saved.trained(BUYER), saved.frozen))
    generated = loaded.generate(
        torch.tensor([context]), max_new_tokens=TOKENS, do_sample=False, eos_token_id=parts.dialect.end, pad_token_id=0
    )
    assert generated[0, len(context) :].tolist() == ours and len(ours) > 1

    # Another model in the same place is not the one whose adapters were trained.
    size = (moved / "model.safetensors").stat().st_size
    with open(moved / "model.safetensors", "r+b") as file:
        file.seek(size - 4)
        file.write(b"\x00\x00\x80\x3f")
    with pytest.raises(ValueError, match="model.checkpoint is not what the run"):
        run.open(tmp_path / "run", {"model.checkpoint": str(moved)}).export(tmp_path / "again")


@pytest.mark.slow
def test_either_side_of_self_play_is_exported(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    checkpoint = str(published.with_tokenizer("llama-scaled-rope", vocabularies.qwen3, folder))
    both = {"learner.role": "both", "buyer.model": "own", "seller.model": "own", "seller.decoding": "constrained"}
    config = _config(smollm2_135m, "scripted", **both, **{"model.checkpoint": checkpoint, "training.iterations": 1})
    pair = run.build(config, tmp_path / "run")
    pair.train()
    saved = weights.restore(pair.parts, pair.workdir, pair.run_id)
    for role, name in enumerate(("buyer", "seller")):
        assert pair.export(tmp_path / name, name) == 1
        program = pair.parts.programs[role]
        whole = lora.merge(program.model.lora, program.whole(saved.trained(role), saved.frozen))
        written = hf_checkpoint.load(tmp_path / name, hf_config.read(tmp_path / name))
        for ours, theirs in zip(*(jax.tree.leaves(own["blocks"]) for own in (whole, written)), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    # Where a checkpoint is named, it plays itself, not what the run has made of it.
    seated, _ = matches.prepare(f"checkpoint:{folder}", f"run:{pair.workdir}", {})._seat({}, jax.random.key(0))
    for role, expected in enumerate((saved.starts[BUYER], saved.trained(SELLER))):
        jax.tree.map(np.testing.assert_array_equal, seated[role].trained, expected)


def test_a_seller_of_another_tokenizer_is_refused(tmp_path):
    folders = {name: tmp_path / name for name in ("buyer", "seller")}
    for (name, folder), make in zip(folders.items(), (vocabularies.qwen3, vocabularies.gemma3), strict=True):
        folder.mkdir()
        published.with_tokenizer("qwen3-tied-6-heads" if name == "buyer" else "gemma3-7-layers", make, folder)
    seller = {"seller.model": "own", "seller.checkpoint": str(folders["seller"])}
    config = _config(qwen3_4b, "lora", **seller, **{"model.checkpoint": str(folders["buyer"])})
    with pytest.raises(ValueError, match="seller.checkpoint=.* another tokenizer"):
        run.build(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_configuration_can_be_cut_down_without_a_checkpoint(method, tmp_path):
    sizes = dict(layers=2, width=32, heads=4, kv_heads=2, head_dim=8, mlp=16, experts=8, active_experts=2)
    parts = assemble(_config(paper_30b, method, **{f"model.{name}": size for name, size in sizes.items()}))
    assert parts.program.model.vocab_size == parts.dialect.tokenizer.vocab_size
    whole = weights.init_learner(parts)
    trained, base = parts.program.trained(whole), weights.base(parts, whole)
    assert trained.keys() == ({"lora"} if method == "lora" else {"ends", "blocks"})
    # One copy: the buyer's base, the seller and the reference are the same arrays, unless all weights are trained.
    for part in ("ends", "blocks"):
        shared = [a is b for a, b in zip(jax.tree.leaves(base[part]), jax.tree.leaves(whole[part]), strict=True)]
        assert all(shared) if method == "lora" else not any(shared)
    assert weights.reference(parts, trained) is None


@pytest.mark.parametrize(
    ("module", "changes", "devices", "fsdp"),
    [
        (paper_30b, {"expert": 4}, 64, 16),
        (paper_30b, {}, 1, 1),
        (qwen3_4b, {}, 4, 4),
        (gemma3_27b, {}, 64, 64),
        (gemma3_27b, {"tensor": 4}, 64, 16),
    ],
)
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_configuration_is_cut_over_the_devices_that_there_are(module, changes, devices, fsdp, method):
    config = override(load(module.get_config(method)), {f"mesh.{axis}": size for axis, size in changes.items()})
    sharding.require_fit(config.mesh, devices, config.model.config(), config.learner.rows())
    assert config.mesh.sizes(devices) == {"data": 1, "fsdp": fsdp, "tensor": 1, "expert": 1} | changes


def test_an_unknown_way_to_train_is_refused():
    with pytest.raises(ValueError, match="argument of the configuration 'fll' is unknown; did you mean 'full'"):
        qwen3_4b.get_config("fll")
