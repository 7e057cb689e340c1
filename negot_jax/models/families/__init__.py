"""Published model families, by the `model_type` of their `config.json`."""

from negot_jax.models.families import gemma3, llama

FAMILIES = {family.model_type: family for family in (*llama.FAMILIES, *gemma3.FAMILIES)}
