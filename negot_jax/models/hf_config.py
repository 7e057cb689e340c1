"""Reads the `config.json` of a Hugging Face checkpoint as a `ModelConfig`.

Each family's module knows its settings. Sizes must be given; another missing setting takes the default of the
`transformers` library. A setting that no module reads is refused by name if it could change the numbers.
"""

import pathlib
from typing import Any

from negot_jax import hub
from negot_jax.models.families import FAMILIES
from negot_jax.models.families.family import Family, Settings
from negot_jax.models.presets import ModelConfig

# float16 has too narrow a range to compute in; its values are float32's as well.
_DTYPES = {"float32": "float32", "bfloat16": "bfloat16", "float16": "float32"}


def read(folder: str | pathlib.Path) -> ModelConfig:
    """The architecture of a checkpoint's folder, activations in its stored type. Raises ValueError if unsupported."""
    path = pathlib.Path(folder) / "config.json"
    family, whole, values = _parts(folder)
    settings = Settings(path, values)
    features = family.features(settings) | {"dtype": _dtype(settings)}
    settings.finish()
    if whole is not values:
        outer = Settings(path, whole)
        outer.pass_over(family.nested, "tie_word_embeddings")
        outer.finish()
    try:
        return ModelConfig(**features)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def family(folder: str | pathlib.Path) -> Family:
    """The family of the checkpoint in a folder."""
    return _parts(folder)[0]


def text_settings(folder: str | pathlib.Path, layers: int, dtype: str) -> dict[str, Any]:
    """The settings, as `transformers` reads them, of the first layers of the language model, stored as `dtype`."""
    family, _, values = _parts(folder)
    values = {name: value for name, value in values.items() if name != "torch_dtype"}
    values |= {"num_hidden_layers": layers, "dtype": dtype}
    if values.get("layer_types"):
        values["layer_types"] = values["layer_types"][:layers]
    return values | {"architectures": [family.architecture]} if family.nested else values


def _parts(folder: str | pathlib.Path) -> tuple[Family, dict[str, Any], dict[str, Any]]:
    """The family, all settings, and those of the language model."""
    path = pathlib.Path(folder) / "config.json"
    hub.require_folder(folder)
    if not path.exists():
        raise ValueError(f"{folder} holds no checkpoint: no config.json. Name the folder that was downloaded.")
    whole = hub.read_json(path)
    kind = whole.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        Settings(path, whole).refuse("model_type", kind, f"Known: {', '.join(FAMILIES)}.")
    family = FAMILIES[kind]
    if family.nested is None:
        return family, whole, whole
    if not isinstance(text := whole.get(family.nested), dict):
        raise ValueError(
            f"{path}: model_type={kind!r} needs {family.nested}, an object, and has {text!r}. "
            f"Use the file that came with the checkpoint, or model_type={f'{kind}_text'!r} for a model of text alone."
        )
    text = {name: value for name, value in text.items() if value is not None}
    if whole.get("tie_word_embeddings") is False:  # transformers 5 ties by the outer setting.
        text["tie_word_embeddings"] = False
    inherited = {name: whole[name] for name in ("dtype", "torch_dtype", "tie_word_embeddings") if name in whole}
    return family, whole, inherited | {"model_type": f"{kind}_text"} | text


def _dtype(settings: Settings) -> str:
    stored = settings.get("dtype", settings.get("torch_dtype", "float32"))
    name = stored.removeprefix("torch.") if isinstance(stored, str) else stored
    if not isinstance(name, str) or name not in _DTYPES:
        settings.refuse("dtype", stored, f"Convert the checkpoint to one of {', '.join(_DTYPES)}.")
    return _DTYPES[name]
