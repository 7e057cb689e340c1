"""Published model families, by the `model_type` of their `config.json`. A new one is a file here and its line below."""

from negot_jax.models.families import gemma3, llama, mistral, qwen2, qwen3, qwen3_moe

FAMILIES = {
    family.model_type: family
    for family in (
        llama.LLAMA,
        mistral.MISTRAL,
        qwen2.QWEN2,
        qwen3.QWEN3,
        qwen3_moe.QWEN3_MOE,
        gemma3.TEXT,
        gemma3.MULTIMODAL,
    )
}
