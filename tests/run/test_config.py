"""The forms in which a configuration may come."""

import pytest

from negot_jax import config as schema
from negot_jax import run
from negot_jax.run import config as configs
from negot_jax.run.config import Config

FILE = """
from negot_jax.config import to_config_dict
from negot_jax.run import Config
def get_config(turns="6"):
  config = to_config_dict(Config())
  config.game.turns = int(turns)
  return config
"""
REMOTE = {"model.checkpoint": "gs://bucket/model"}
WANTED = configs.override(Config(), {"game.turns": 3, "game.seller": "begging"})


def test_every_form_gives_the_same(tmp_path):
    (tmp_path / "short.py").write_text(FILE)
    forms = [
        WANTED,
        schema.to_config_dict(WANTED),
        {"game": {"turns": 3, "seller": "begging"}},
        {"game.turns": 3, "game.seller": "begging"},
        {"game.turns": 3, "game": {"seller": "begging"}},
        configs.flat(WANTED),
    ]
    assert all(configs.load(form) == WANTED for form in forms)
    assert configs.load(tmp_path / "short.py") == Config()
    assert configs.load(f"{tmp_path}/short.py:3").game.turns == 3


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"game.turn": 3}, "game.turn = 3.*did you mean game.turns"),
        ({"game.turns": "x"}, "game.turns = 'x'"),
        ("no.py", "no.py: there is no file"),
    ],
)
def test_what_is_no_configuration_is_refused(form, message):
    with pytest.raises((ValueError, TypeError), match=message):
        configs.load(form)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"learner.role": "seller"}, "learner.role='seller'"),
        ({"mesh.fsdp": 3}, "mesh.fsdp=3.* 64 devices"),
        ({"model.preset": "qwen3-4b", "mesh.expert": 2, **REMOTE}, "mesh.expert=2 cuts experts"),
        ({"model.heads": 3, "model.kv_heads": 2}, "heads"),
        ({"learner.group": 1}, "learner.group=1.*algorithm.advantage=gae"),
        ({"sampling.temperature": 0.0}, "sampling: .*temperature=0"),
        ({"sampling.top_k": 5}, "sampling: .*top_k=5"),
    ],
)
def test_a_configuration_is_checked_without_its_devices(fields, message):
    with pytest.raises(ValueError, match=message):
        run.check(fields, devices=64)


def test_a_critic_needs_no_group():
    run.check({"learner.group": 1, "learner.micro_batches": 1, "algorithm.advantage": "gae"}, devices=1)


def test_a_checkpoint_elsewhere_has_the_sizes_of_its_preset_or_unknown_ones():
    run.check({"mesh.expert": 2, **REMOTE}, devices=64)
