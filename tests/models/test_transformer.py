"""The transformer against plain numpy, and the one forward pass against itself: cached, padded, cut into pieces."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negot_jax.models import kv_cache, sharding, transformer
from negot_jax.models.presets import preset

CONFIG = preset("tiny", vocab_size=61, layers=3, width=24, heads=6, kv_heads=2, head_dim=8, mlp=40)
B, T, COLUMNS = 3, 14, 17
BLOCKS = (5, 9, T)
_SIZES = {
    name: getattr(CONFIG, name) for name in ("vocab_size", "layers", "width", "heads", "kv_heads", "head_dim", "mlp")
}
OTHERS = {
    "gemma3": preset("gemma3-270m", **_SIZES, window=4, local_layers=(True, False), dtype="float32"),
    "experts": dataclasses.replace(CONFIG, experts=5, active_experts=2),
    "dense layers": dataclasses.replace(
        CONFIG, layers=4, experts=5, active_experts=2, dense_layers=(True, False, False), dense_mlp=16
    ),
    "dense layers cut off": dataclasses.replace(
        CONFIG, layers=2, experts=5, active_experts=2, dense_layers=(False, False, False, True), dense_mlp=16
    ),
}
TOLERANCE = dict(atol=1e-5, rtol=1e-5)

forward = jax.jit(transformer.forward, static_argnums=(0,), static_argnames="readout")


def random_weights(config):
    """Weights whose norms scale, too, so that no factor of 1 hides a norm left out."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        normal = rng.standard_normal(leaf.shape, np.float32)
        return jnp.asarray(1 + 0.2 * normal if "scale" in jax.tree_util.keystr(path) else 0.2 * normal)

    shapes = jax.eval_shape(functools.partial(transformer.init, config=config), jax.random.key(0))
    return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.fixture(scope="module")
def weights():
    return random_weights(CONFIG)


@pytest.fixture(scope="module")
def batch():
    """Tokens and valid columns [B, T], padding anywhere: row 0 has none, row 2 nothing else."""
    rng = np.random.default_rng(0)
    valid = rng.random((B, T)) < 0.7
    valid[0] = True
    valid[1, :3], valid[1, -2:] = False, False
    valid[2] = False
    tokens = rng.integers(CONFIG.vocab_size, size=(B, T), dtype=np.int32)
    return tokens, valid


@pytest.fixture(scope="module")
def whole(weights, batch):
    """Hidden states of one pass over everything."""
    return np.asarray(forward(CONFIG, weights, *batch)[0])


def _named(weights):
    """The weights by their dotted path, float64."""
    leaves = jax.tree_util.tree_leaves_with_path(weights)
    return {sharding.leaf_name(path): np.asarray(leaf, np.float64) for path, leaf in leaves}


def _norm(x, scale):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + CONFIG.norm_eps) * scale


def _rotate(x_TxH):
    half = CONFIG.head_dim // 2
    angles = np.arange(len(x_TxH))[:, None] / CONFIG.rope.theta ** (np.arange(half) / half)
    turn = np.exp(1j * angles) * (x_TxH[:, :half] + 1j * x_TxH[:, half:])  # A pair is a complex number.
    return np.concatenate([turn.real, turn.imag], axis=-1)


def _plain_forward(weights, tokens):
    """Hidden states [T, D] of one row without padding, head by head."""
    w = _named(weights)
    x = w["ends.embedding"][tokens]
    for layer in range(CONFIG.layers):
        p = {name.removeprefix("blocks."): value[layer] for name, value in w.items() if name.startswith("blocks.")}
        y = _norm(x, p["attention_norm.scale"])
        for head in range(CONFIG.heads):
            shared = head // (CONFIG.heads // CONFIG.kv_heads)
            query = _rotate(_norm(y @ p["attention.query"][:, head], p["attention.query_norm.scale"]))
            key = _rotate(_norm(y @ p["attention.key"][:, shared], p["attention.key_norm.scale"]))
            scores = query @ key.T / np.sqrt(CONFIG.head_dim)
            scores = np.exp(np.where(np.tri(len(tokens), dtype=bool), scores, -np.inf))
            mixed = scores / scores.sum(-1, keepdims=True) @ y @ p["attention.value"][:, shared]
            x = x + mixed @ p["attention.out"][head]
        y = _norm(x, p["mlp_norm.scale"])
        gate = y @ p["mlp.gate"]
        x = x + (gate / (1 + np.exp(-gate)) * (y @ p["mlp.up"])) @ p["mlp.down"]
    return _norm(x, w["ends.norm.scale"])


def test_forward_and_logits_equal_plain_numpy(weights, batch, whole):
    """Each row without its padding; the layers in a plain loop."""
    tokens, valid = batch
    for row in range(2):
        at = valid[row]
        hidden = _plain_forward(weights, tokens[row, at])
        np.testing.assert_allclose(whole[row, at], hidden, atol=3e-5)
        scores = transformer.logits(CONFIG, weights, jnp.asarray(whole[row, at]))
        assert scores.dtype == jnp.float32
        np.testing.assert_allclose(scores, hidden @ _named(weights)["ends.embedding"].T, atol=2e-4)


@pytest.mark.parametrize("apart", [False, True], ids=["stacked", "apart"])
@pytest.mark.parametrize("chunks, grows", [((6, 7, 1), True), ((9, 1, 1, 1, 1, 1), False)], ids=["grows", "decode"])
def test_reading_through_the_cache_equals_one_pass(weights, batch, whole, chunks, grows, apart, monkeypatch):
    """Also where the cache begins with the columns of the first chunk alone, and layers are stacked or apart."""
    monkeypatch.setattr(kv_cache, "apart", lambda: apart)
    read = jax.jit(functools.partial(transformer.forward, CONFIG))  # A new one, which no other layout is compiled into.
    cache, start = kv_cache.init_cache(B, chunks[0] if grows else COLUMNS, CONFIG), 0
    for size in chunks:
        end = start + size
        part = (x[:, start:end] for x in batch)
        hidden, cache, _ = read(weights, *part, kv_cache.widen(cache, end) if grows else cache)
        valid = batch[1][:, start:end]
        np.testing.assert_allclose(hidden[valid], whole[:, start:end][valid], **TOLERANCE)
        start = end
    assert len(cache.keys) == (CONFIG.layers if apart else 1)
    assert cache.cursor == T and (cache.valid_BxS[:, :T] == batch[1]).all() and not cache.valid_BxS[:, T:].any()


def test_a_widened_cache_repeats_rows_by_group(weights, batch):
    """What each member of a group would have read."""
    read = lambda group: forward(
        CONFIG, weights, *(jnp.repeat(x, group, axis=0) for x in batch), kv_cache.init_cache(B * group, T, CONFIG)
    )[1]
    ours, theirs = kv_cache.widen(read(1), COLUMNS, group=2), kv_cache.widen(read(2), COLUMNS)
    jax.tree.map(functools.partial(np.testing.assert_allclose, **TOLERANCE), ours, theirs)


def test_a_cache_left_by_other_tokens_is_overwritten(weights, batch, whole):
    """Columns after the new ones are in the future, whatever they hold."""
    tokens, valid = batch
    cache = kv_cache.init_cache(B, COLUMNS, CONFIG)
    other = jax.tree.map(lambda x: x + 9, (cache.keys, cache.values))
    cache = kv_cache.Cache(*other, valid_BxS=~cache.valid_BxS, cursor=cache.cursor)
    hidden = forward(CONFIG, weights, tokens[:, :9], valid[:, :9], cache).hidden_BxTxD
    np.testing.assert_allclose(hidden[valid[:, :9]], whole[:, :9][valid[:, :9]], **TOLERANCE)


@pytest.mark.parametrize("blocks", [BLOCKS, (1, T)])
def test_blocks_change_nothing(weights, batch, whole, blocks):
    hidden, cache, _ = forward(CONFIG, weights, *batch, readout=transformer.Readout(blocks))
    np.testing.assert_allclose(hidden[batch[1]], whole[batch[1]], **TOLERANCE)
    assert cache is None


@pytest.mark.parametrize("blocks", [(), BLOCKS])
def test_what_stands_in_padding_changes_no_bit(weights, batch, blocks):
    tokens, valid = batch
    other = np.where(valid, tokens, (tokens + 7) % CONFIG.vocab_size)
    read = lambda ids: np.asarray(forward(CONFIG, weights, ids, valid, readout=transformer.Readout(blocks))[0])
    first, second = read(tokens), read(other)
    assert (first[valid] == second[valid]).all() and (first != second)[~valid].any()


def test_what_stands_in_padding_of_the_cache_changes_no_bit(weights, batch):
    tokens, valid = batch
    other = np.where(valid, tokens, (tokens + 7) % CONFIG.vocab_size)

    def last(ids):
        cache = kv_cache.init_cache(B, COLUMNS, CONFIG)
        cache = forward(CONFIG, weights, ids[:, :9], valid[:, :9], cache).cache
        return np.asarray(forward(CONFIG, weights, tokens[:, 9:10], np.ones((B, 1), bool), cache)[0])

    assert (last(tokens) == last(other)).all()


def test_later_tokens_change_no_bit_of_earlier_states(weights, batch, whole):
    tokens, valid = batch
    later = np.arange(T) >= 8
    hidden = np.asarray(forward(CONFIG, weights, np.where(later, 3, tokens), valid)[0])
    assert (hidden[valid & ~later] == whole[valid & ~later]).all()
    assert (hidden[0, later] != whole[0, later]).any(axis=-1).all()


def test_gradients_are_finite_with_padding_rows(weights, batch):
    @jax.jit
    def loss(weights):
        hidden = transformer.forward(CONFIG, weights, *batch).hidden_BxTxD
        scores = transformer.logits(CONFIG, weights, hidden)
        return jnp.where(batch[1][..., None], scores, 0).var()

    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.grad(loss)(weights)):
        assert np.isfinite(leaf).all() and np.any(leaf != 0), path


def test_bfloat16_computes_near_float32_from_float32_weights(weights, batch, whole):
    config = dataclasses.replace(CONFIG, dtype="bfloat16")
    hidden, cache, _ = forward(config, weights, *batch, kv_cache.init_cache(B, COLUMNS, config))
    assert {x.dtype for x in (hidden, *cache.keys, *cache.values)} == {jnp.dtype(jnp.bfloat16)}
    np.testing.assert_allclose(hidden[batch[1]].astype(np.float32), whole[batch[1]], atol=0.15)
    assert transformer.logits(config, weights, hidden).dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(weights)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", [None, pytest.param("experts", marks=pytest.mark.slow)])
def test_products_in_bfloat16_leave_activations_and_gradients_in_float32(name, batch):
    exact = OTHERS.get(name, CONFIG)
    weights, config = random_weights(exact), dataclasses.replace(exact, matmul="bfloat16")

    def loss(weights, config):
        hidden, cache, _ = transformer.forward(config, weights, *batch, kv_cache.init_cache(B, COLUMNS, config))
        assert {x.dtype for x in (hidden, *cache.keys, *cache.values)} == {jnp.dtype("float32")}
        return jnp.where(batch[1][..., None], transformer.logits(config, weights, hidden), 0).var()

    rounded, whole = (jax.jit(jax.grad(loss), static_argnums=1)(weights, own) for own in (config, exact))
    for low, high in zip(jax.tree.leaves(rounded), jax.tree.leaves(whole), strict=True):
        assert low.dtype == high.dtype == jnp.float32
        assert 0 < jnp.linalg.norm(low - high) < 0.1 * jnp.linalg.norm(high)


def test_a_product_of_bfloat16_is_summed_in_float32_and_so_are_its_gradients(weights, batch):
    def products(matmul):
        config = dataclasses.replace(CONFIG, matmul=matmul)
        loss = jax.grad(lambda weights: transformer.forward(config, weights, *batch).hidden_BxTxD.sum())
        return re.findall(
            r"dot_general .*: \(tensor<\S*xbf16>, tensor<\S*xbf16>\) -> tensor<\S*xf32>",
            jax.jit(loss).lower(weights).as_text(),
        )

    # Seven matrices, and what comes back through them.
    assert len(products("bfloat16")) >= 14 > len(products("float32")) == 0


@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_counted_and_untied_ones_used(tied):
    config = dataclasses.replace(CONFIG, tied_embedding=tied)
    weights = jax.eval_shape(functools.partial(transformer.init, config=config), jax.random.key(0))
    V, L, D, N, K, H, F = 61, 3, 24, 6, 2, 8, 40
    layer = 2 * D * N * H + 2 * D * K * H + 2 * H + 3 * D * F + 2 * D
    assert transformer.parameter_count(weights) == L * layer + (1 if tied else 2) * V * D + D
    named = jax.tree_util.tree_leaves_with_path(weights)
    assert any("unembedding" in str(path) for path, _ in named) != tied


def test_init_depends_on_the_key_and_starts_at_a_sane_scale(batch):
    """Unit-variance scores, so the first distribution is neither flat nor certain; every layer its own weights."""
    init = jax.jit(transformer.init, static_argnums=1)
    # This generator compiles faster.
    first, same, other = (init(jax.random.key(k, impl="unsafe_rbg"), CONFIG) for k in (0, 0, 1))
    assert all((a == b).all() for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(same), strict=True))
    query = _named(first)["blocks.attention.query"]
    assert (query[0] != query[1]).all() and (query != _named(other)["blocks.attention.query"]).all()
    scores = transformer.logits(CONFIG, first, forward(CONFIG, first, *batch)[0])
    assert 0.5 < scores[batch[1]].std() < 2


@pytest.mark.parametrize("blocks, cached", [((5, 9), False), (BLOCKS, True)])
def test_impossible_blocks_are_refused(weights, batch, blocks, cached):
    cache = kv_cache.init_cache(B, T, CONFIG) if cached else None
    with pytest.raises(ValueError, match="blocks=.* must end at the 14 new tokens and go without a cache"):
        transformer.forward(CONFIG, weights, *batch, cache, readout=transformer.Readout(blocks))


def test_the_layers_of_one_kind_share_a_stack_where_layers_are_stacked(batch, monkeypatch):
    config = OTHERS["dense layers"]
    read = lambda: jax.jit(functools.partial(transformer.forward, config))(
        random_weights(config), *batch, kv_cache.init_cache(B, T, config)
    )
    apart = read()
    monkeypatch.setattr(kv_cache, "apart", lambda: False)
    stacked = read()
    assert [len(keys) for keys in stacked.cache.keys] == [1, 2, 1] and len(apart.cache.keys) == 4
    assert stacked.picked_LxBxTxk.shape == (2, B, T, 2) == stacked.cache.experts_LxBxSxk.shape
    assert (stacked.picked_LxBxTxk == apart.picked_LxBxTxk)[:, batch[1]].all()
    np.testing.assert_allclose(stacked.hidden_BxTxD[batch[1]], apart.hidden_BxTxD[batch[1]], **TOLERANCE)


@pytest.mark.parametrize("name", OTHERS)
def test_other_architectures_read_alike_in_any_pieces(name, batch):
    """Without padding, in blocks, and through the cache: tokens are as near to each other in all of them."""
    config = OTHERS[name]
    weights, valid = random_weights(config), batch[1]
    whole = np.asarray(forward(config, weights, *batch)[0])
    for row in range(2):
        alone = [x[row : row + 1, valid[row]] for x in batch]
        np.testing.assert_allclose(forward(config, weights, *alone)[0][0], whole[row, valid[row]], **TOLERANCE)
    blocks = forward(config, weights, *batch, readout=transformer.Readout(BLOCKS)).hidden_BxTxD
    np.testing.assert_allclose(blocks[valid], whole[valid], **TOLERANCE)
    cache = kv_cache.init_cache(B, COLUMNS, config)
    for start, end in ((0, 6), (6, 10), (10, 14)):
        part = (x[:, start:end] for x in batch)
        hidden, cache, _ = forward(config, weights, *part, cache)
        np.testing.assert_allclose(hidden[valid[:, start:end]], whole[:, start:end][valid[:, start:end]], **TOLERANCE)


def test_a_window_hides_what_is_before_it(batch):
    """A change reaches (window - 1) tokens further with every local layer, and no token after that."""
    config = dataclasses.replace(OTHERS["gemma3"], layers=2, local_layers=(True, True, False))
    weights, (tokens, valid) = random_weights(config), (x[:1] for x in batch)
    first, second = (forward(config, weights, ids, valid)[0][0] for ids in (tokens, tokens + (np.arange(T) == 2)))
    changed = np.asarray(first != second).any(axis=-1)
    assert changed.tolist() == [2 <= t <= 2 + 2 * 3 for t in range(T)]


def test_rematerialization_saves_memory_and_changes_no_gradient(batch, monkeypatch):
    monkeypatch.setattr(transformer, "_SHALLOW", 0)  # In a loop, which compiles one layer.
    config = dataclasses.replace(CONFIG, layers=8)
    weights, results, memory = random_weights(config), [], []
    for remat in ("none", "dots", "full"):
        variant = dataclasses.replace(config, remat=remat)
        loss = lambda weights, variant=variant: jnp.sin(transformer.forward(variant, weights, *batch)[0]).sum()
        compiled = jax.jit(jax.grad(loss)).lower(weights).compile()
        results.append(compiled(weights))
        memory.append(compiled.memory_analysis().temp_size_in_bytes)
    assert memory[0] > memory[1] > memory[2]
    for other in results[1:]:
        for a, b in zip(jax.tree.leaves(results[0]), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", OTHERS)
def test_other_architectures_in_bfloat16(name, batch):
    weights = jax.tree.map(lambda x: x.astype(jnp.bfloat16), random_weights(OTHERS[name]))
    exact = jax.tree.map(lambda x: x.astype(jnp.float32), weights)
    config = dataclasses.replace(OTHERS[name], dtype="bfloat16")
    low, whole = forward(config, weights, *batch)[0], forward(OTHERS[name], exact, *batch)[0]
    assert low.dtype == jnp.bfloat16
    error = np.asarray(low.astype(np.float32) - whole)[batch[1]]
    assert np.sqrt((error**2).mean()) < 0.05 * np.sqrt(np.mean(np.asarray(whole)[batch[1]] ** 2))
