"""Published tokenizers: `tokenizer.json` of the Hugging Face Hub, and SentencePiece models.

Two kinds of `tokenizer.json` are known, by how they turn tokens into text: byte-level (Qwen, Llama 3), whose pieces
spell bytes by printable characters, and byte fallback (Gemma, Llama 2), whose pieces are text with a visible space.
"""

from collections.abc import Callable
import json
import os
import pathlib
import re
from typing import Any

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
import tokenizers

from negot_jax import hub
from negot_jax.language.tokenizer import SPACE, Tokenizer, piece_bytes, spelling_out_spaces, widened

_OWN = "Use the tokenizer that came with the model."
# SentencePiece knows no special tokens but its own: those around messages are pieces that any text may spell.
_TURN = re.compile(r"<(start|end)_of_\w+>|<\|\w+\|>")
# What has to pass unchanged: runs of spaces, white space at either end, letters of both cases, digits, symbols.
_PROBE = (
    "".join(" " * run + chr(97 + run % 26) for run in range(1, 32)) + "\n\n\t$1,250.75 [BUY] Stra\u00dfe \u4f60?\r\n "
)
# The byte of each character: visible Latin-1 characters stand for themselves, the rest start at U+0100.
_VISIBLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_HIDDEN = [byte for byte in range(256) if byte not in _VISIBLE]
_ALPHABET = {chr(byte): byte for byte in _VISIBLE} | {chr(256 + i): byte for i, byte in enumerate(_HIDDEN)}


def load(folder: str | pathlib.Path, vocab_size: int) -> Tokenizer:
    """The tokenizer in a checkpoint's folder: `tokenizer.json`, or else `tokenizer.model`.

    vocab_size: the model's, which may be larger than the tokenizer's: ids beyond it stand for no bytes. Raises
    ValueError if the file is missing, damaged, of an unknown kind, or changes texts.
    """
    for name, read in (("tokenizer.json", from_json), ("tokenizer.model", from_sentencepiece)):
        if (path := pathlib.Path(folder) / name).exists():
            return read(path, vocab_size)
    raise ValueError(f"{folder} has neither tokenizer.json nor tokenizer.model. Copy the model's own there.")


def from_json(path: pathlib.Path, vocab_size: int) -> Tokenizer:
    """Reads a `tokenizer.json`. Control tokens are those marked as special and those that stand around messages, such
    as "<|im_start|>"; other added ones are text.
    """
    settings = hub.read_json(path)
    added = _added_tokens(settings, path)
    added = [token | {"special": token["special"] or bool(_TURN.fullmatch(token["content"]))} for token in added]
    bytes_of = _decoder(settings.get("decoder"), path)
    library = _attempt(path, lambda: tokenizers.Tokenizer.from_str(json.dumps(_plain(settings, added, bytes_of))))
    library.encode_special_tokens = True  # What a text spells is text.
    ids = library.get_vocab(with_added_tokens=True)
    for token in added:
        if ids.get(token["content"]) != token["id"]:
            raise ValueError(
                f"{path}: added token {token['content']!r} has id {token['id']}, but is read as "
                f"{ids.get(token['content'])}: the ids have holes or overlap. {_OWN}"
            )
    controls = {token["content"]: token["id"] for token in added if token["special"]}
    said = {token: bytes_of(piece) for piece, token in ids.items()} | dict.fromkeys(controls.values(), b"")
    size = _fitting(max(said, default=0) + 1, vocab_size, path)
    token_bytes = tuple(said.get(token, b"") for token in range(size))
    plain = lambda text: library.encode(text, add_special_tokens=False).ids
    spelled = bytes_of is not _byte_level
    encode = _attempt(path, lambda: spelling_out_spaces(plain, token_bytes)) if spelled else plain
    return _probed(path, Tokenizer(path.read_bytes(), encode, token_bytes, controls))


def from_sentencepiece(path: pathlib.Path, vocab_size: int) -> Tokenizer:
    """Reads a SentencePiece model. It is asked not to put a space before every text, as it does by default.

    Pieces that stand around messages, such as "<start_of_turn>", are control tokens.
    """
    hub.require_content(path)
    content = path.read_bytes()
    model = _attempt(path, lambda: sentencepiece_model_pb2.ModelProto.FromString(content))
    normalizer = model.normalizer_spec
    if normalizer.name != "identity" or normalizer.remove_extra_whitespaces:
        raise ValueError(
            f"{path}: normalization {normalizer.name!r} with remove_extra_whitespaces="
            f"{normalizer.remove_extra_whitespaces} changes texts. Use a model with 'identity' that keeps white space."
        )
    normalizer.add_dummy_prefix = False
    processor = _attempt(path, lambda: sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString()))
    size = processor.get_piece_size()
    pieces = [processor.id_to_piece(token) for token in range(size)]
    defined = sentencepiece_model_pb2.ModelProto.SentencePiece.USER_DEFINED
    turns = [piece.piece for piece in model.pieces if piece.type == defined and _TURN.fullmatch(piece.piece)]
    token_bytes = tuple(b"" if piece in turns else piece_bytes(processor, token) for token, piece in enumerate(pieces))
    controls = {piece: token for token, piece in enumerate(pieces) if not token_bytes[token]}
    encode = _attempt(path, lambda: spelling_out_spaces(_cut(turns, processor.encode), token_bytes))
    tokenizer = Tokenizer(content, encode, token_bytes, controls)
    return _probed(path, widened(tokenizer, _fitting(size, vocab_size, path)))


def _fitting(size: int, vocab_size: int, path: pathlib.Path) -> int:
    if size > vocab_size:
        raise ValueError(f"{path}: {size} tokens, but model.vocab_size={vocab_size}. {_OWN}")
    return vocab_size


def _attempt(path: pathlib.Path, read: Callable[[], Any]) -> Any:
    """Calls a library; whatever it raises becomes an error about the file. (A Rust panic is not an `Exception`.)"""
    try:
        return read()
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:
        raise ValueError(f"{path} cannot be read as a tokenizer: {error}. {_OWN}") from error


def _probed(path: pathlib.Path, tokenizer: Tokenizer) -> Tokenizer:
    """Returns the tokenizer. Raises ValueError if it changes a text, or reads one as a control token."""
    ids = _attempt(path, lambda: tokenizer.encode(_PROBE))
    if (read := tokenizer.decode(ids)) != _PROBE:
        at = len(os.path.commonprefix([read, _PROBE]))
        raise ValueError(
            f"{path} changes texts: {_PROBE[at : at + 8]!r} is read as {read[at : at + 8]!r}. Its normalizer, "
            f"pre-tokenizer or vocabulary loses something. {_OWN}"
        )
    for name, control in tokenizer.controls.items():
        if control in _attempt(path, lambda name=name: tokenizer.encode(name)):
            raise ValueError(f"{path}: a text that spells its control token {name!r} is read as that token. {_OWN}")
    return tokenizer


def _added_tokens(settings: dict, path: pathlib.Path) -> list[dict]:
    added = settings.get("added_tokens", [])
    types = {"id": int, "content": str, "special": bool}
    if not isinstance(added, list):
        raise ValueError(f"{path}: added_tokens={added!r} must be a list. {_OWN}")
    for token in added:
        held = token if isinstance(token, dict) else {}
        wrong = [name for name, kind in types.items() if type(held.get(name)) is not kind]
        if wrong or re.search("[\ud800-\udfff]", token["content"]):
            raise ValueError(f"{path}: added_tokens has {token!r}, whose {(wrong or ['content'])[0]} is wrong. {_OWN}")
    return added


def _plain(settings: dict, added: list[dict], bytes_of: Callable[[str], bytes]) -> dict:
    """Settings that encode a whole text deterministically: no prefix, no truncation, no dropout.

    An added token that the decoder would not reproduce is marked as special, so that no text is encoded to it.
    """

    def encodes(token):
        own = token["content"]
        return not (token.get("lstrip") or token.get("rstrip")) and (SPACE in own or bytes_of(own) == own.encode())

    def without_prefix(step):
        """The step of a normalizer or pre-tokenizer; None if all that it does is to put something before a text."""
        if isinstance(step, list):
            return [part for part in map(without_prefix, step) if part is not None]
        if not isinstance(step, dict):
            return step
        if step.get("type") == "Prepend":
            return None
        step = {name: without_prefix(value) for name, value in step.items()}
        if step.get("type") in ("ByteLevel", "Metaspace") and "add_prefix_space" in step:
            step["add_prefix_space"] = False
        if step.get("type") == "Metaspace":
            step["prepend_scheme"] = "never"
        return step

    model = settings.get("model")
    return settings | {
        "added_tokens": [token | {"special": token["special"] or not encodes(token)} for token in added],
        "normalizer": without_prefix(settings.get("normalizer")),
        "pre_tokenizer": without_prefix(settings.get("pre_tokenizer")),
        "model": model | {"dropout": None} if isinstance(model, dict) and model.get("dropout") else model,
        "truncation": None,
        "padding": None,
    }


def _decoder(settings: Any, path: pathlib.Path) -> Callable[[str], bytes]:
    """Returns the function that turns a piece into bytes, given the settings of the tokenizer's decoder."""
    steps = settings.get("decoders") if isinstance(settings, dict) and settings.get("type") == "Sequence" else settings
    steps = steps if isinstance(steps, list) else [steps]
    kinds = [step.get("type") if isinstance(step, dict) else None for step in steps]
    if kinds == ["ByteLevel"]:
        return _byte_level
    # Strip removes the space that the normalizer puts before a text; here no text gets one.
    if kinds in (known := ["Replace", "ByteFallback", "Fuse"], [*known, "Strip"]):
        if (steps[0].get("pattern"), steps[0].get("content")) == ({"String": SPACE}, " "):
            return _byte_fallback
    raise ValueError(
        f"{path}: a decoder of {', '.join(map(str, kinds))} is not supported. Known: ByteLevel; and Replace (of "
        f"{SPACE!r} by a space), ByteFallback, Fuse, with or without Strip. {_OWN}"
    )


def _byte_level(piece: str) -> bytes:
    """The bytes that a piece spells; a piece with any other character stands for itself."""
    try:
        return bytes(_ALPHABET[character] for character in piece)
    except KeyError:
        return piece.encode()


def _byte_fallback(piece: str) -> bytes:
    if re.fullmatch("<0x[0-9A-Fa-f]{2}>", piece):
        return bytes([int(piece[3:5], 16)])
    return piece.replace(SPACE, " ").encode()


def _cut(pieces: list[str], encode: Callable[[str], list[int]]) -> Callable[[str], list[int]]:
    """Wraps `encode` to split a text within each of these pieces, so that no text becomes one of these tokens."""
    if not pieces:
        return encode
    spelled = re.compile("|".join(map(re.escape, pieces)))

    def encode_cut(text):
        cuts = [0, *(match.start() + 1 for match in spelled.finditer(text)), len(text)]
        return [token for start, end in zip(cuts, cuts[1:], strict=False) for token in encode(text[start:end])]

    return encode_cut
