"""Model FLOPs of an iteration, by formula.

Matrix products count two FLOPs per parameter and token; attention counts as if every token saw half of the context.
Recomputation in a backward pass does not count (model FLOPs; Chowdhery et al. 2022, arXiv 2204.02311, appendix B).
"""

import dataclasses

from negot_jax.models.presets import ModelConfig


@dataclasses.dataclass(frozen=True)
class Workload:
    """One training iteration. group: episodes per scenario. epochs: passes over the episodes. rescored: forward passes
    besides the rollout whose log-probs are constants of the loss: the trainer's own, and the reference's.
    """

    model: ModelConfig
    scenarios: int
    group: int
    epochs: int
    rescored: int

    @property
    def episodes(self) -> int:
        return self.scenarios * self.group


def per_token(model: ModelConfig, columns: float, scored: float) -> float:
    """FLOPs of a forward pass per token.

    columns: how many a token attends to, on average; local layers see no more than their window. scored: the share of
    tokens for which logits over the vocabulary are computed.
    """
    attention = model.width * model.head_dim * (2 * model.heads + 2 * model.kv_heads)
    experts = 3 * model.width * model.mlp * model.active_experts + model.width * model.experts
    dense = 3 * model.width * (model.dense_mlp or model.mlp)
    mlps = model.mixtures * experts + (model.layers - model.mixtures) * dense
    whole = model.is_local.count(False)
    seen = whole * columns + (model.layers - whole) * min(columns, model.window or columns)
    matrices = model.layers * attention + mlps + scored * model.width * model.vocab_size
    return 2 * matrices + 4 * seen * model.heads * model.head_dim


def per_iteration(work: Workload, tokens: float, sampled: float) -> float:
    """FLOPs of rollout and update over the learner's contexts, which hold `tokens`, of them `sampled` its own.

    A token passes forward once in the rollout and once per rescoring pass. Every epoch costs three forward passes, as
    a backward pass counts two; one less if the matrices themselves are frozen (LoRA). What the opponent reads is left
    out.
    """
    training = (2 if work.model.lora.rank else 3) * work.epochs
    columns = tokens / work.episodes
    return tokens * (1 + work.rescored + training) * per_token(work.model, columns / 2, sampled / tokens)
