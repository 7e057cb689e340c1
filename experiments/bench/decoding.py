"""Decoding alone: tokens per second of a model of random weights with a full cache, and the memory read for them.

  python -m experiments.bench.decoding [--model=qwen3-0.6b] [--rows=256] [--columns=640] [--tokens=64] [--json]

A step reads all weights and all columns once, and samples a token for each row. On a chip whose bandwidth is known, the
share of it is what those bytes would take at best over what the step takes.
"""

import functools

from absl import flags
import jax
import jax.numpy as jnp

from experiments import cli
from experiments.bench import iteration, timing
from negot_jax.models import kv_cache, presets, sampling, transformer
from negot_jax.models.kv_cache import Cache
from negot_jax.models.presets import ModelConfig
from negot_jax.models.sharding import EXPERT, TENSOR
from negot_jax.models.transformer import Weights
from negot_jax.roofline import estimate

_SAMPLING = sampling.SamplingConfig()


@functools.partial(jax.jit, static_argnums=(0, 3), donate_argnums=2)
def decode(model: ModelConfig, weights: Weights, cache: Cache, tokens: int) -> tuple[jax.Array, Cache]:
    """Samples so many tokens for each row into the last columns of a cache; returns the last ones, int32[B]."""
    rows, columns = cache.valid_BxS.shape

    def step(number, carry):
        token, cache = carry
        read = (token[:, None], jnp.ones((rows, 1), bool), cache)
        hidden, cache, _ = transformer.forward(model, weights, *read)
        scores = sampling.log_probs(transformer.logits(model, weights, hidden[:, 0]), _SAMPLING.temperature)
        uniforms = jax.random.uniform(jax.random.fold_in(jax.random.key(0), number), (2, rows))
        return sampling.sample(uniforms, scores, _SAMPLING), cache

    return jax.lax.fori_loop(0, tokens, step, (jnp.zeros(rows, jnp.int32), cache.at(columns - tokens)))


def measure(model: ModelConfig, rows: int, columns: int, tokens: int, repeats: int) -> dict:
    """Tokens per second, and the share of the memory's bandwidth, None where that is not known."""
    cast = lambda key: jax.tree.map(lambda x: x.astype(model.dtype), transformer.init(key, model))
    weights, cache = jax.jit(cast)(jax.random.key(0)), kv_cache.init_cache(rows, columns, model)
    cache = cache.replace(valid_BxS=jnp.ones((rows, columns), bool))

    def run() -> jax.Array:
        nonlocal cache
        token, cache = decode(model, weights, cache, tokens)
        return token

    timing.seconds(run)
    step = [timing.seconds(run) / tokens for _ in range(repeats)]
    values = estimate.weight_bytes(model, {EXPERT: 1, TENSOR: 1}) + rows * columns * estimate.column_bytes(model)
    read = values / 2 * jnp.dtype(model.dtype).itemsize  # The formulas are of bfloat16.
    chip = estimate.CHIPS.get(jax.devices()[0].device_kind)
    share = [read / seconds / chip.bandwidth for seconds in step] if chip and chip.bandwidth else None
    return {
        "rows": rows,
        "columns": columns,
        "tokens_per_s": timing.summary([rows / seconds for seconds in step]),
        "read_gib_per_step": read / 2**30,
        "bandwidth_share": share and timing.summary(share),
    }


def main() -> None:
    with cli.checking_input():
        model = iteration.preset(_MODEL.value)
        if _TOKENS.value > _COLUMNS.value:
            raise ValueError(f"--tokens={_TOKENS.value} do not fit into --columns={_COLUMNS.value}. Take fewer.")
    machine = timing.machine()  # Before the load that this makes.
    figures = measure(model, _ROWS.value, _COLUMNS.value, _TOKENS.value, _REPEATS.value)
    timing.show(figures | {"model": _MODEL.value, "machine": machine}, _JSON.value)


if __name__ == "__main__":
    _MODEL = flags.DEFINE_string("model", "qwen3-0.6b", f"Preset: {', '.join(presets.PRESETS)}.")
    _ROWS = flags.DEFINE_integer("rows", 256, "Rows that decode together.", lower_bound=1)
    _COLUMNS = flags.DEFINE_integer("columns", 640, "Columns of the cache.", lower_bound=1)
    _TOKENS = flags.DEFINE_integer("tokens", 64, "Tokens of a timed call.", lower_bound=1)
    _REPEATS = flags.DEFINE_integer("repeats", 5, "Timed calls.", lower_bound=1)
    _JSON = flags.DEFINE_bool("json", False, "One line of JSON.")
    cli.run(main)
