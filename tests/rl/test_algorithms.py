"""The objective of each algorithm on a played batch, against one numpy loss written from the papers; and refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negot_jax.rl import objective, scoring
from negot_jax.rl.advantages import ADVANTAGES
from negot_jax.rl.algorithms import PRESETS, AlgorithmConfig, preset
from negot_jax.rl.train_step import NOTHING_FROZEN, Frozen, episode_loss, make_targets
from tests.rl.conftest import TEMPERATURE

GROUP = 4

VARIANTS = {
    **PRESETS,
    "k1": AlgorithmConfig(kl="k1", kl_coefficient=0.1),
    "k2": AlgorithmConfig(kl="k2", kl_coefficient=0.1, entropy=0.02),
    "importance": AlgorithmConfig(importance_cap=1.01),
    "cispo_narrow": AlgorithmConfig(surrogate="cispo", clip=(0.005, 0.005)),
    "mask_tokens": AlgorithmConfig(importance="mask_tokens", importance_cap=1.01),
    "mask_episodes": AlgorithmConfig(importance="mask_episodes", importance_cap=1.02),
    "ppo_with_k1": AlgorithmConfig(
        advantage="gae", gamma=0.99, gae_lambda=0.9, value_clip=0.01, kl="k1", kl_coefficient=0.1, importance_cap=2.0
    ),
}


def _episode_advantages(config, reward_B, mask, k1_BxN, values_BxN):
    """Advantages and returns token by token, in plain loops."""
    B, N = mask.shape
    rewards, advantages = np.zeros((B, N)), np.zeros((B, N))
    for b in range(B):
        rewards[b, np.flatnonzero(mask[b])[-1]] = reward_B[b]
        if config.kl == "k1":
            rewards[b, mask[b]] -= config.kl_coefficient * k1_BxN[b, mask[b]]
    for b in range(B):
        if config.advantage == "gae":
            after_value = after_advantage = 0.0
            for n in np.flatnonzero(mask[b])[::-1]:
                delta = rewards[b, n] + config.gamma * after_value - values_BxN[b, n]
                advantages[b, n] = delta + config.gamma * config.gae_lambda * after_advantage
                after_value, after_advantage = values_BxN[b, n], advantages[b, n]
        else:
            members = slice(b // GROUP * GROUP, (b // GROUP + 1) * GROUP)
            returns = rewards[members].sum(axis=1)
            centered = rewards[b].sum() - returns.mean()
            advantages[b, mask[b]] = centered / (returns.std() + 1e-4) if config.scale == "group" else centered
    returns = advantages + values_BxN
    if config.scale == "batch":
        own = advantages[mask]
        advantages = np.where(mask, (advantages - own.mean()) / (own.std() + 1e-8), 0)
    return advantages, returns


def _oracle(config, reward_B, mask, sampler, trainer, new, reference):
    """The loss of a batch: sampler's, trainer's old and new, and the reference's log-probabilities [B, N]."""
    values = np.zeros(mask.shape) if config.advantage == "group" else trainer.values
    recomputed = config.advantage == "gae" or config.importance_cap > 0
    old = trainer.log_probs if recomputed else sampler
    advantages, returns = _episode_advantages(config, reward_B, mask, old - reference, values)
    total, weight = 0.0, 0.0
    for b in range(len(mask)):
        group = reward_B[b // GROUP * GROUP : (b // GROUP + 1) * GROUP]
        if config.mask_equal_groups and group.min() == group.max():
            continue
        own = np.flatnonzero(mask[b])
        terms = []
        for n in own:
            ratio = np.exp(new.log_probs[b, n] - old[b, n])
            if config.ratio == "sequence":
                ratio = np.exp(np.mean(new.log_probs[b, own] - old[b, own]))
            bounded = np.clip(ratio, 1 - config.clip[0], 1 + config.clip[1])
            term = -min(ratio * advantages[b, n], bounded * advantages[b, n])
            if config.surrogate == "cispo":
                term = -bounded * advantages[b, n] * (new.log_probs[b, n] - old[b, n])
            if cap := config.importance_cap:
                weight_n, weight_b = np.exp(old[b, n] - sampler[b, n]), np.exp(np.sum(old[b, own] - sampler[b, own]))
                term *= {
                    "truncate": min(weight_n, cap),
                    "mask_tokens": weight_n * (1 / cap <= weight_n <= cap),
                    "mask_episodes": weight_b * (weight_b <= cap),
                }[config.importance]
            log_ratio = new.log_probs[b, n] - reference[b, n]
            term -= config.entropy * new.entropies[b, n]
            term += config.kl_coefficient * {
                "k2": 0.5 * log_ratio**2,
                "k3": np.exp(-log_ratio) - 1 + log_ratio,
            }.get(config.kl, 0.0)
            if config.advantage == "gae":
                value, before = new.values[b, n], values[b, n]
                kept = before + np.clip(value - before, -config.value_clip, config.value_clip)
                worst = max((value - returns[b, n]) ** 2, (kept - returns[b, n]) ** 2)
                term += config.value_coefficient * 0.5 * worst
            terms.append(term)
        total += {"token": np.sum, "episode": np.mean, "constant": lambda x: np.sum(x) / mask.shape[1]}[
            config.aggregation
        ](terms)
        weight += len(own) if config.aggregation == "token" else 1
    return total / max(weight, 1)


def _program(world, algorithm, **changes):
    sampling = dataclasses.replace(world.program.sampling, temperature=TEMPERATURE)
    config = dataclasses.replace(world.program.config, **changes)
    return dataclasses.replace(world.program, algorithm=algorithm, sampling=sampling, config=config)


def _moved(weights, scale, seed):
    """Weights a little way off, the critic's too."""
    leaves, tree = jax.tree.flatten(weights)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    moved = [x + scale * jax.random.normal(key, x.shape) for x, key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, moved)


@pytest.fixture(scope="module")
def played(world):
    return world.play(world.constrained, world.weights).buyer


@pytest.mark.parametrize("name", VARIANTS)
def test_the_objective_is_the_papers(name, world, played):
    config = VARIANTS[name]
    program, tables = _program(world, config), world.constrained
    start = program.init_state(jax.random.key(0), world.weights).weights
    old, new, reference = (_moved(start, scale, seed) for scale, seed in ((0.003, 1), (0.02, 2), (0.02, 3)))
    # Rewards of our own, a group of equal ones among them.
    reward_B = np.random.default_rng(0).choice([-1.0, 0.0, 0.4], len(played.tokens_BxT)).astype(np.float32)
    reward_B[:GROUP] = 0.0

    frozen = Frozen(reference=reference)
    targets, _ = make_targets(program, old, frozen, tables, played, jnp.array(reward_B))
    (total, weight), metrics = episode_loss(program, tables, frozen, new, (played, targets))

    double = lambda scores: jax.tree.map(lambda x: np.asarray(x, np.float64), scores)
    scores = [double(program.score(weights, tables, played)) for weights in (old, new, reference)]
    mask = np.asarray(played.sampled_BxKxW).reshape(len(reward_B), -1)
    sampler = np.asarray(played.log_probs_BxKxW, np.float64).reshape(mask.shape)
    expected = _oracle(config, reward_B, mask, sampler, scores[0], scores[1], scores[2].log_probs)
    assert abs(expected) > 1e-4
    np.testing.assert_allclose(total / weight, expected, rtol=2e-4, atol=2e-6)
    assert all(np.isfinite(pair).all() for pair in metrics.values())


def test_the_tail_is_the_share_of_ratios_outside_a_factor_of_two():
    log_ratio, mask = jnp.array([[0.0, 0.69, 0.7, -0.7, 5.0]]), jnp.array([[True, True, True, True, False]])
    zeros = jnp.zeros(mask.shape)
    targets = objective.Targets(mask, *[zeros] * 7)
    _, metrics = objective.loss(AlgorithmConfig(), scoring.TokenScores(log_ratio, zeros, zeros), targets)
    assert metrics["ratio_tail"] == (2, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"advantage": "gea"}, "Did you mean 'gae'"),
        ({"ratio": "sequense"}, "Did you mean 'sequence'"),
        ({"clip": (0.2,)}, "algorithm.clip"),
        ({"clip": (1.1, 0.2)}, "the first at most 1"),
        ({"importance": "mask_tokens"}, "does nothing without algorithm.importance_cap"),
        ({"clip": (float("nan"), 0.2)}, "algorithm.clip"),
        ({"clip": (0.2, float("nan"))}, "algorithm.clip"),
        ({"entropy": -0.1}, "algorithm.entropy=-0.1 must be 0"),
        ({"entropy": float("inf")}, "algorithm.entropy=inf must be 0"),
        ({"importance_cap": 0.5}, "algorithm.importance_cap=0.5 must be 0 .off., or 1 or more"),
        ({"kl": "k3"}, "Set both"),
        ({"kl_coefficient": 0.1}, "Set both"),
        ({"gae_lambda": 0.9}, "algorithm.gae_lambda=0.9 .* algorithm.advantage='gae'"),
        ({"advantage": "gae", "gamma": 1.5}, "not in"),
        ({"advantage": "gae", "scale": "group"}, "use 'batch'"),
        ({"advantage": "gae", "ratio": "sequence"}, "use 'token'"),
        ({"advantage": "gae", "mask_equal_groups": True}, "leave it out"),
        ({"advantage": "gae", "value_clip": 0.0}, "algorithm.value_clip"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        AlgorithmConfig(**changes)


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(ValueError, match="grpo.*ppo"):
        preset("trpo")


def test_a_divergence_needs_a_reference(world, played):
    program = _program(world, VARIANTS["k2"])
    with pytest.raises(ValueError, match="reference"):
        nothing, rewards_B = NOTHING_FROZEN, jnp.zeros(len(played.tokens_BxT))
        make_targets(program, world.weights, nothing, world.constrained, played, rewards_B)


def test_an_advantage_of_ones_own(world, played, monkeypatch):
    """RLOO's (Ahmadian et al. 2024): once in the table, the configuration takes it and the targets are made by it."""

    def leave_one_out(rewards_BxN, mask_BxN, *, group, **_):
        centered = ADVANTAGES["group"](rewards_BxN, mask_BxN, group=group)
        return centered * group / (group - 1)

    with pytest.raises(ValueError, match="algorithm.advantage='leave_one_out' is not one of group, gae"):
        AlgorithmConfig(advantage="leave_one_out")
    monkeypatch.setitem(ADVANTAGES, "leave_one_out", leave_one_out)
    program = _program(world, AlgorithmConfig(advantage="leave_one_out"))
    reward_B = jnp.arange(len(played.tokens_BxT), dtype=jnp.float32)
    targets, _ = make_targets(program, world.weights, NOTHING_FROZEN, world.constrained, played, reward_B)
    alone = np.asarray(reward_B) - (np.asarray(reward_B).reshape(-1, GROUP).sum(axis=1).repeat(GROUP) - reward_B) / 3
    np.testing.assert_allclose(targets.advantages, np.where(targets.mask, alone[:, None], 0), atol=1e-4)
