"""Tokenizers of published kinds: Mistral's as shipped, and small ones of Qwen3's and of Gemma's form, trained here."""

import functools
import importlib.resources
import json
import pathlib

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from negot_jax.catalog import synthetic

QWEN3_CONTROLS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
GEMMA3_CONTROLS = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
# In the published form, without the parts for tools.
QWEN3_INSTRUCT = """
{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == 'assistant' %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content }}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
# Qwen's: contractions, words with at most one character before them, single digits, punctuation, line ends, spaces.
_QWEN3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@functools.cache
def _texts() -> list[str]:
    catalog = synthetic.load(200)
    form = "Thought: think\nTalk: I can pay\nAction: [BUY] $12.50 (1x toys_3)\nAction: [DEAL] $1,234 [REJECT] [QUIT]\n"
    return [*catalog.titles, *catalog.descriptions, *catalog.features, *[form] * 20]


def qwen3(folder: pathlib.Path) -> pathlib.Path:
    """A byte-level `tokenizer.json`; thoughts have tokens of their own, which are text. The template is beside it."""
    library = tokenizers.Tokenizer(models.BPE())
    library.normalizer = normalizers.NFC()
    words = pre_tokenizers.Split(tokenizers.Regex(_QWEN3_WORDS), "isolated")
    library.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(False, use_regex=False)])
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    library.train_from_iterator(
        _texts(), trainers.BpeTrainer(vocab_size=2000, initial_alphabet=alphabet, show_progress=False)
    )
    library.add_special_tokens(QWEN3_CONTROLS)
    library.add_tokens(["<think>", "</think>"])
    library.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": QWEN3_INSTRUCT}))
    return folder / "tokenizer.json"


def gemma3(folder: pathlib.Path) -> pathlib.Path:
    """A byte-fallback `tokenizer.json`; spaces are visible ones, and unknown characters are spelt in bytes."""
    library = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    library.normalizer = normalizers.Replace(" ", "\u2581")
    library.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    library.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    fallback = [*GEMMA3_CONTROLS, *(f"<0x{byte:02X}>" for byte in range(256))]
    library.train_from_iterator(
        _texts(), trainers.BpeTrainer(vocab_size=2000, special_tokens=fallback, show_progress=False)
    )
    settings = json.loads(library.to_str())
    # The trainer's way to put the bytes into the vocabulary makes them special, which they are not.
    settings["added_tokens"] = [token for token in settings["added_tokens"] if token["content"] in GEMMA3_CONTROLS]
    vocabulary = settings["model"]["vocab"]
    # Runs of spaces are added tokens that the decoder changes, as in the published file.
    fields = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
    for run in range(2, 32):
        token = vocabulary.setdefault("\u2581" * run, len(vocabulary))
        settings["added_tokens"].append({"id": token, "content": "\u2581" * run, **fields})
    (folder / "tokenizer.json").write_text(json.dumps(settings))
    return folder / "tokenizer.json"


def mistral() -> pathlib.Path:
    """The SentencePiece model of 32,768 tokens in the package `mistral-common`."""
    data = pytest.importorskip("mistral_common", reason="install '.[test]': mistral-common has a published tokenizer")
    return pathlib.Path(str(importlib.resources.files(data))) / "data/mistral_instruct_tokenizer_240323.model.v3"
