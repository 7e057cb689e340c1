"""The forward pass against `transformers`, on random checkpoints of every architecture that it knows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negot_jax.models import hf_checkpoint, hf_config, kv_cache, layers, transformer
from negot_jax.models.sharding import leaf_name
from tests.models import published
from tests.models.published import CASES, VOCAB, torch

ROPE_INIT_FUNCTIONS = pytest.importorskip("transformers.modeling_rope_utils").ROPE_INIT_FUNCTIONS

T, NEW = 40, 32
LENGTHS = (5, 12, 9)  # Of the prompts, in rows of 12 columns.


@pytest.fixture(scope="module", params=published.NAMES)
def reference(request):
    return published.make(CASES[request.param])


@pytest.fixture(scope="module")
def model(reference, tmp_path_factory):
    """The same model here: its configuration and weights."""
    folder = published.save(reference, tmp_path_factory.mktemp("model"))
    config = hf_config.read(folder)
    return config, hf_checkpoint.load(folder, config)


@pytest.fixture(scope="module")
def tokens():
    return np.random.default_rng(0).integers(VOCAB, size=(3, T), dtype=np.int32)


@pytest.mark.parametrize(
    "more",
    [
        {"truncate": False},
        {"beta_fast": 20.0, "beta_slow": 2.0, "truncate": True},
        {"mscale": 1.0},
        {"mscale": 0.7, "mscale_all_dim": 1.2},
        {"mscale": 1.0, "mscale_all_dim": 1.0, "attention_factor": 1.3},
        {"attn_factor": 0.878},
    ],
)
def test_yarn_turns_as_far(more, tmp_path):
    case = CASES["qwen2-irregular-window-yarn"]
    scaling = case.settings["rope_parameters"] | {"original_max_position_embeddings": 512} | more
    theirs = published.transformers.Qwen2Config(**case.settings | {"rope_parameters": scaling})
    theirs.save_pretrained(tmp_path)
    frequencies, factor = ROPE_INIT_FUNCTIONS["yarn"](theirs, "cpu")
    config = hf_config.read(tmp_path)
    assert config.rope.attention_factor == pytest.approx(factor)
    np.testing.assert_allclose(layers._frequencies(config.head_dim, config.rope), frequencies, rtol=1e-5)


def _logits(config, weights, tokens_BxT):
    hidden = transformer.forward(config, weights, tokens_BxT, jnp.ones(tokens_BxT.shape, bool)).hidden_BxTxD
    return transformer.logits(config, weights, hidden)


def test_logits(reference, model, tokens):
    with torch.no_grad():
        expected = reference(torch.tensor(tokens).long()).logits.numpy()
    assert expected.std() > 0.3  # Else near agreement shows nothing.
    got = jax.jit(_logits, static_argnums=0)(*model, tokens)
    assert np.abs(got - expected).max() < 1e-4 * np.abs(expected).max()


def test_gradients(reference, model, tokens, tmp_path):
    """Of the mean log-probability of the next token. The reference's gradients are read as a checkpoint's weights."""
    ids = torch.tensor(tokens).long()
    scores = torch.log_softmax(reference(ids).logits[:, :-1], dim=-1)
    reference.zero_grad()
    scores.gather(2, ids[:, 1:, None]).mean().backward()
    weights = [(weight, weight.data.clone()) for weight in reference.parameters()]
    for weight, _ in weights:
        weight.data = torch.zeros_like(weight) if weight.grad is None else weight.grad
    expected = hf_checkpoint.load(published.save(reference, tmp_path), model[0])
    for weight, data in weights:
        weight.data = data

    def mean_log_prob(weights):
        log_probs = jax.nn.log_softmax(_logits(model[0], weights, tokens)[:, :-1])
        return jnp.take_along_axis(log_probs, tokens[:, 1:, None], axis=2).mean()

    got = jax.jit(jax.grad(mean_log_prob))(model[1])
    for (path, leaf), want in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(expected), strict=True):
        assert np.linalg.norm(leaf - want) < 5e-4 * np.linalg.norm(want), leaf_name(path)


@functools.partial(jax.jit, static_argnums=0)
def _generate(config, weights, prompts_BxP, valid_BxP):
    """Greedy tokens [B, NEW] and their hidden states, by the cache; prompts are padded on the left or in the middle."""
    B, P = prompts_BxP.shape
    cache = kv_cache.init_cache(B, P + NEW, config)
    hidden, cache, _ = transformer.forward(config, weights, prompts_BxP, valid_BxP, cache)

    def step(carry, _):
        hidden_BxD, cache = carry
        token = jnp.argmax(transformer.logits(config, weights, hidden_BxD), axis=-1).astype(jnp.int32)[:, None]
        new, cache, _ = transformer.forward(config, weights, token, jnp.ones((B, 1), bool), cache)
        return (new[:, 0], cache), (token[:, 0], hidden_BxD)

    _, (tokens, hidden) = jax.lax.scan(step, (hidden[:, -1], cache), length=NEW)
    return tokens.T, jnp.swapaxes(hidden, 0, 1)


def test_greedy_tokens_and_cached_decoding(reference, model, tokens):
    P = max(LENGTHS)
    valid = np.zeros((3, P), bool)
    valid[0, [0, 3, 4, 9, 11]] = valid[1] = valid[2, -9:] = True
    assert tuple(valid.sum(axis=1)) == LENGTHS
    got, hidden = _generate(*model, tokens[:, :P], valid)
    for row in range(3):
        prompt = torch.tensor(tokens[row : row + 1, :P][:, valid[row]]).long()
        expected = reference.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=NEW, do_sample=False
        )
        np.testing.assert_array_equal(got[row], expected[0, prompt.shape[1] :].numpy())
    columns = np.concatenate([tokens[:, :P], got], axis=1)
    valid = np.concatenate([valid, np.ones((3, NEW), bool)], axis=1)
    whole = jax.jit(transformer.forward, static_argnums=0)(*model, columns, valid).hidden_BxTxD
    np.testing.assert_allclose(hidden, whole[:, P - 1 : -1], atol=2e-5, rtol=1e-4)
