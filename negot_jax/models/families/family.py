"""What a model family is made of: how its `config.json` becomes a `ModelConfig`, and where its tensors are stored."""

from collections.abc import Callable
import dataclasses
import math
import pathlib
import re
from typing import Any, NoReturn

from negot_jax.models.presets import RopeConfig

_LAYER = "model.layers.{layer}."
_HEADS, _MATRICES = ("query", "key", "value"), ("gate", "up", "down")
_NO_DEFAULT = object()
MANY = 4096  # No model has more layers, or experts in one.

ENDS = {
    "ends.embedding": "model.embed_tokens.weight",
    "ends.norm.scale": "model.norm.weight",
    "ends.unembedding": "lm_head.weight",
}
ATTENTION = {
    "blocks.attention_norm.scale": _LAYER + "input_layernorm.weight",
    "blocks.attention.out": _LAYER + "self_attn.o_proj.weight",
    **{f"blocks.attention.{name}": f"{_LAYER}self_attn.{name[0]}_proj.weight" for name in _HEADS},
}
QK_NORM = {f"blocks.attention.{name}_norm.scale": f"{_LAYER}self_attn.{name[0]}_norm.weight" for name in _HEADS[:2]}
QKV_BIAS = {f"blocks.attention.{name}_bias": f"{_LAYER}self_attn.{name[0]}_proj.bias" for name in _HEADS}
PRE_NORM = {"blocks.mlp_norm.scale": _LAYER + "post_attention_layernorm.weight"}
SANDWICH_NORM = {
    "blocks.attention_out_norm.scale": _LAYER + "post_attention_layernorm.weight",
    "blocks.mlp_norm.scale": _LAYER + "pre_feedforward_layernorm.weight",
    "blocks.mlp_out_norm.scale": _LAYER + "post_feedforward_layernorm.weight",
}
MLP = {f"blocks.mlp.{name}": f"{_LAYER}mlp.{name}_proj.weight" for name in _MATRICES}
EXPERTS = {"blocks.mlp.router": _LAYER + "mlp.gate.weight"}
EXPERTS |= {f"blocks.mlp.{name}": f"{_LAYER}mlp.experts.{{expert}}.{name}_proj.weight" for name in _MATRICES}
DENSE = {name.replace("mlp", "dense", 1): tensor for name, tensor in MLP.items()}  # Of a mixture's dense layers.

# A setting that nobody read may change the forward pass if its name speaks of a part of it, unless it speaks of
# training, sampling, bookkeeping or how a kernel is chosen.
_OF_THE_FORWARD_PASS = re.compile(
    r"attn|attention|rope|rotary|norm|capping|softcap|scal|multiplier|bias|window|expert|router|moe|mlp|ffn|hidden|head"
    r"|layer|emb|resid|quant|compress|(^|_)act(_|$)|activation|logit|softmax|sink|lora|rank|alibi|position|kv|qk|mup"
    r"|mask|causal|bidirectional|group|clip|parallel|spars|gate|gating|glu|conv|ssm|mamba|recurrent|altup|laurel"
)
_HARMLESS = re.compile(
    r"drop|initializer|_init|loss|coef|noise|jitter|^output_|implementation|flash|sdpa|cache|checkpoint|label|version"
    r"|beam|token|_ids?$|_index$|dtype|^((original_)?max_position_embeddings|n_positions)$"
)
_MULTIPLIER = re.compile("scal|multiplier|factor|ratio")  # Neutral at 1.


class Settings:
    """The settings of a `config.json`, by name and type; null counts as absent. `finish` checks those nobody read."""

    def __init__(self, path: pathlib.Path, values: dict[str, Any]):
        self.path = path
        self.values = values
        self._read: set[str] = {"model_type", "architectures"}

    def refuse(self, name: str, value: Any, way_out: str) -> NoReturn:
        raise ValueError(f"{self.path}: {name}={value!r:.120} is not supported. {way_out}")

    def get(self, name: str, default: Any = _NO_DEFAULT) -> Any:
        self._read.add(name)
        value = self.values.get(name)
        if value is None and default is _NO_DEFAULT:
            raise ValueError(f"{self.path} lacks {name}. Use the file that came with the checkpoint.")
        return default if value is None else value

    def whole(self, name: str, default: Any = _NO_DEFAULT, least: int = 1, most: int = 2**31 - 1) -> Any:
        value = self.get(name, default)
        if value is not default and not (type(value) is int and least <= value <= most):
            self.refuse(name, value, f"It must be a whole number from {least} to {most}.")
        return value

    def number(self, name: str, default: Any = _NO_DEFAULT) -> Any:
        value = self.get(name, default)
        return value if value is default else self.positive(name, value)

    def positive(self, name: str, value: Any) -> float:
        if type(value) not in (int, float) or not 0 < value < math.inf:
            self.refuse(name, value, "It must be a positive number.")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self.get(name, default)
        if not isinstance(value, bool):
            self.refuse(name, value, "It must be true or false.")
        return value

    def only(self, name: str, supported: Any) -> None:
        """Refuses any value but this one, which is also the default."""
        if (value := self.get(name, supported)) != supported:
            self.refuse(name, value, f"Use a checkpoint with {supported!r}.")

    def fill(self, defaults: dict[str, Any]) -> None:
        """Gives values to settings that are absent or null."""
        self.values = defaults | {name: value for name, value in self.values.items() if value is not None}

    def pass_over(self, *names: str) -> None:
        """Marks settings that have no effect in this family as read."""
        self._read.update(names)

    def finish(self) -> None:
        """Refuses a setting that nobody read if it may change what the model computes."""
        for name, value in self.values.items():
            if name in self._read or not value or _HARMLESS.search(name) or not _OF_THE_FORWARD_PASS.search(name):
                continue
            if not (_MULTIPLIER.search(name) and type(value) in (int, float) and value == 1):
                self.refuse(name, value, "It may change what the model computes. Use a checkpoint without it.")


@dataclasses.dataclass(frozen=True)
class Family:
    """One architecture of the Hub.

    model_type, architecture: its names in `config.json`. features: turns settings into fields of `ModelConfig`.
    tensors: maps a weight's name to the stored tensor's, with {layer} and {expert} where there are many. rename: maps a
    tensor's name in a file to that in `tensors`; None for a tensor outside the model. nested: the setting that holds
    those of the language model in a multimodal one.
    """

    model_type: str
    architecture: str
    features: Callable[[Settings], dict[str, Any]]
    tensors: dict[str, str]
    rename: Callable[[str], str | None] = lambda name: name
    nested: str | None = None


def sizes(settings: Settings) -> dict[str, Any]:
    """The features that all families have."""
    return {
        "vocab_size": settings.whole("vocab_size"),
        "layers": settings.whole("num_hidden_layers", most=MANY),
        "width": settings.whole("hidden_size"),
        "heads": settings.whole("num_attention_heads"),
        "kv_heads": settings.whole("num_key_value_heads"),
        "norm_eps": settings.number("rms_norm_eps", 1e-6),
    }


def layer_types(settings: Settings, default: tuple[bool, ...]) -> tuple[bool, ...]:
    """Which layers are local, in the shortest form that `ModelConfig.local_layers` has for it."""
    kinds = settings.get("layer_types", None)
    local, layers = default, len(default)
    if kinds is not None:
        known = {"full_attention": False, "sliding_attention": True}
        if not isinstance(kinds, list) or len(kinds) != layers or not all(kind in known for kind in map(str, kinds)):
            settings.refuse("layer_types", kinds, f"It must name {layers} layers: {' or '.join(known)}.")
        local = tuple(known[kind] for kind in kinds)
    return shortest(local)


def shortest(layers: tuple[bool, ...]) -> tuple[bool, ...]:
    """The shortest tuple that, repeated, gives this one."""
    return next(layers[:n] for n in range(1, len(layers) + 1) if layers == (layers[:n] * len(layers))[: len(layers)])


_ROPE_FIELDS = {"default": (), "linear": ("factor",), "yarn": ("factor",)}
_ROPE_FIELDS["llama3"] = ("factor", "low_freq_factor", "high_freq_factor")


def rope(settings: Settings) -> RopeConfig:
    """The rotary embedding of a family that has one for all layers.

    Two forms are in use, `rope_parameters` and the older `rope_scaling`, which goes first, with `rope_theta` beside it.
    """
    given = settings.get("rope_parameters", {})
    older = settings.get("rope_scaling", {})
    return rope_of(settings, "rope_scaling" if older else "rope_parameters", older or given, "rope_theta", 10_000.0)


def rope_of(settings: Settings, where: str, given: Any, theta_name: str, theta: float) -> RopeConfig:
    """The rotary embedding that a dictionary of settings describes.

    where: the name of the dictionary, for errors. theta_name, theta: where the base stands if not in it, and its value
    where it stands nowhere.
    """
    if not isinstance(given, dict):
        settings.refuse(where, given, "It must be an object.")
    given = {name: value for name, value in given.items() if value is not None}
    theta = settings.number(theta_name, theta)
    kind = given.pop("rope_type", given.get("type", "default"))
    given.pop("type", None)
    if not isinstance(kind, str) or kind not in _ROPE_FIELDS:
        settings.refuse(f"{where}.rope_type", kind, f"Known: {', '.join(_ROPE_FIELDS)}.")
    number = lambda name: settings.positive(f"{where}.{name}", given.pop(name))
    fields = {"kind": kind, "theta": number("rope_theta") if "rope_theta" in given else theta}
    for name in _ROPE_FIELDS[kind]:
        if name not in given:
            raise ValueError(f"{settings.path}: {where} lacks {name}, which {kind!r} needs. Use the checkpoint's own.")
        fields[name] = number(name)
    if kind == "llama3" and fields["high_freq_factor"] <= fields["low_freq_factor"]:
        settings.refuse(f"{where}.high_freq_factor", fields["high_freq_factor"], "It must be above low_freq_factor.")
    if kind == "yarn" and fields["theta"] <= 1:
        settings.refuse(f"{where}.rope_theta", fields["theta"], "It must be above 1.")
    if kind in ("llama3", "yarn"):
        own = settings.whole("original_max_position_embeddings", None)
        length = own or given.pop("original_max_position_embeddings", None)
        length = settings.whole("max_position_embeddings") if length is None else length
        fields["original_length"] = settings.positive(f"{where}.original_max_position_embeddings", length)
    if kind == "yarn":
        fields |= {name: number(name) for name in ("beta_fast", "beta_slow") if given.get(name)}
        fields["truncate"] = given.pop("truncate", True)
        if not isinstance(fields["truncate"], bool):
            settings.refuse(f"{where}.truncate", fields["truncate"], "It must be true or false.")
        # Peng et al. 2023, arXiv 2309.00071; DeepSeek-V2's two scales count together alone. `attn_factor` is read by
        # other engines, not by transformers.
        grown = lambda scale: 0.1 * scale * math.log(max(fields["factor"], 1.0)) + 1.0
        own, all_dims, _ = (given.pop(name, 0) for name in ("mscale", "mscale_all_dim", "attn_factor"))
        own, all_dims = (value and settings.positive(f"{where}.mscale", value) for value in (own, all_dims))
        scale = grown(own) / grown(all_dims) if own and all_dims else grown(1.0)
        fields["attention_factor"] = number("attention_factor") if "attention_factor" in given else scale
    for name, value in given.items():
        neutral = name in ("factor", "partial_rotary_factor", "attention_factor", "truncate") and value == 1
        if value and not neutral and name != "original_max_position_embeddings":
            settings.refuse(f"{where}.{name}", value, f"This setting is not supported for {kind!r}.")
    return RopeConfig(**fields)
