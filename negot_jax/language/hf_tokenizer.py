"""Published tokenizers: `tokenizer.json` of the Hugging Face Hub, and SentencePiece models.

The game needs the byte string of every token of a vocabulary; `PublishedTokenizer` has it, and otherwise what
`tokenizer.Tokenizer` has. Two kinds of `tokenizer.json` are known, by how they turn tokens into text: byte-level (Qwen,
Llama 3), whose pieces spell bytes by printable characters, and byte fallback (Gemma, Llama 2), whose pieces are text
with a visible space.
"""

from collections.abc import Callable, Iterable
import json
import pathlib
import re
from typing import Any

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
import tokenizers

from negot_jax import hub
from negot_jax.language.tokenizer import Tokenizer

_SPACE = "\u2581"  # The visible space of SentencePiece and of byte-fallback vocabularies.
_OWN = "Use the tokenizer that came with the model."
# SentencePiece knows no special tokens but its own: those around messages are pieces that any text may spell.
_TURN = re.compile(r"<(start|end)_of_\w+>|<\|\w+\|>")
# What has to pass unchanged: runs of spaces, white space at either end, letters of both cases, digits, symbols.
_PROBE = (
    "".join(" " * run + chr(97 + run % 26) for run in range(1, 32)) + "\n\n\t$1,250.75 [BUY] Stra\u00dfe \u4f60?\r\n "
)


class PublishedTokenizer:
    """A vocabulary, with what the game needs to know of it.

    Attributes:
      model: the content of the file that it was read from.
      token_bytes: what the vocabulary's decoder makes of every token; empty for control tokens and unused ids.
      controls: the ids of control tokens by name, such as "<|im_end|>".
    """

    def __init__(
        self, model: bytes, encode: Callable[[str], list[int]], token_bytes: Iterable[bytes], controls: dict[str, int]
    ):
        self.model = model
        self._encode = encode
        self.token_bytes = tuple(token_bytes)
        self.controls = controls

    @property
    def vocab_size(self) -> int:
        return len(self.token_bytes)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; control tokens are never produced, whatever the text spells."""
        return self._encode(text)

    decode = Tokenizer.decode
    single_bytes = Tokenizer.single_bytes

    def control(self, name: str) -> int:
        """The id of a control token."""
        if name not in self.controls:
            raise ValueError(
                f"tokenizer: no control token {name!r}; there are {', '.join(sorted(self.controls)[:20])}. "
                "Use the chat format that the model was trained with."
            )
        return self.controls[name]


def load(folder: str | pathlib.Path, vocab_size: int) -> PublishedTokenizer:
    """The tokenizer in a checkpoint's folder: `tokenizer.json`, or else `tokenizer.model`.

    Args:
      vocab_size: the model's, which may be larger than the tokenizer's: ids beyond it stand for no bytes.

    Raises:
      ValueError: there is none, it is damaged, of an unknown kind, or does not let texts pass unchanged.
    """
    path = find(folder)
    return (from_json if path.suffix == ".json" else from_sentencepiece)(path, vocab_size)


def find(folder: str | pathlib.Path) -> pathlib.Path:
    """The file of the tokenizer in a checkpoint's folder."""
    for path in (pathlib.Path(folder) / "tokenizer.json", pathlib.Path(folder) / "tokenizer.model"):
        if path.exists():
            return path
    raise ValueError(f"{folder} has neither tokenizer.json nor tokenizer.model. Copy the model's own there.")


def from_json(path: str | pathlib.Path, vocab_size: int) -> PublishedTokenizer:
    """Reads a `tokenizer.json`. Tokens marked as special are control tokens; other added ones are text.

    A text passes as its normalizer leaves it, which may compose characters (Unicode's NFC), as Qwen's does.
    """
    path = pathlib.Path(path)
    settings = hub.read_json(path)
    added = _added_tokens(settings, path)
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
    token_bytes = [b""] * _fitting(max(ids.values(), default=0) + 1, vocab_size, path)
    for piece, token in ids.items():
        token_bytes[token] = bytes_of(piece)
    controls = {token["content"]: token["id"] for token in added if token["special"]}
    for token in controls.values():
        token_bytes[token] = b""
    encode = lambda text: library.encode(text, add_special_tokens=False).ids
    if bytes_of is not _byte_level:
        encode = _spell(encode, token_bytes, path)
    return _probed(path, PublishedTokenizer(path.read_bytes(), encode, token_bytes, controls))


def from_sentencepiece(path: str | pathlib.Path, vocab_size: int) -> PublishedTokenizer:
    """Reads a SentencePiece model. It is asked not to put a space before every text, as it does by default.

    Pieces that stand around messages, such as "<start_of_turn>", are control tokens.
    """
    path = pathlib.Path(path)
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
    turns = [
        piece.type == sentencepiece_model_pb2.ModelProto.SentencePiece.USER_DEFINED and _TURN.fullmatch(piece.piece)
        for piece in model.pieces
    ]
    control = [processor.is_control(token) or processor.is_unknown(token) or turns[token] for token in range(size)]
    token_bytes = [b""] * _fitting(size, vocab_size, path)
    for token, piece in enumerate(pieces):
        if not control[token]:
            token_bytes[token] = _byte_fallback(piece) if processor.is_byte(token) else _visible(piece)
    controls = {piece: token for token, piece in enumerate(pieces) if control[token]}
    encode = _cut([piece for token, piece in enumerate(pieces) if turns[token]], processor.encode)
    return _probed(path, PublishedTokenizer(content, _spell(encode, token_bytes, path), token_bytes, controls))


def _fitting(size: int, vocab_size: int, path: pathlib.Path) -> int:
    if size > vocab_size:
        raise ValueError(f"{path}: {size} tokens, but model.vocab_size={vocab_size}. {_OWN}")
    return vocab_size


def _attempt(path: pathlib.Path, read: Callable[[], Any]) -> Any:
    """What a library reads; whatever it raises is an error of the file. (Panics of Rust are no `Exception`.)"""
    try:
        return read()
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:
        raise ValueError(f"{path} is no tokenizer that can be read: {error}. {_OWN}") from error


def _probed(path: pathlib.Path, tokenizer: PublishedTokenizer) -> PublishedTokenizer:
    """The tokenizer, if a text passes it unchanged."""
    ids = _attempt(path, lambda: tokenizer.encode(_PROBE))
    if (read := tokenizer.decode(ids)) != _PROBE:
        at = next(
            (i for i, (a, b) in enumerate(zip(read, _PROBE, strict=False)) if a != b), min(len(read), len(_PROBE))
        )
        raise ValueError(
            f"{path} changes texts: {_PROBE[at : at + 8]!r} is read as {read[at : at + 8]!r}. Its normalizer, "
            f"pre-tokenizer or vocabulary loses something. {_OWN}"
        )
    return tokenizer


def _added_tokens(settings: dict, path: pathlib.Path) -> list[dict]:
    added = settings.get("added_tokens", [])
    types = {"id": int, "content": str, "special": bool}
    if not isinstance(added, list):
        raise ValueError(f"{path}: added_tokens={added!r} must be a list. {_OWN}")
    for token in added:
        wrong = [
            name for name, kind in types.items() if not isinstance(token, dict) or type(token.get(name)) is not kind
        ]
        if wrong or not _is_unicode(token["content"]):
            raise ValueError(f"{path}: added_tokens has {token!r}, whose {(wrong or ['content'])[0]} is wrong. {_OWN}")
    return added


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _plain(settings: dict, added: list[dict], bytes_of: Callable[[str], bytes]) -> dict:
    """Settings with which a text is encoded whole and by rule: nothing put before it, cut off, or drawn at random.

    An added token that the decoder would not give back as it stands is never encoded to: as a special one it is text.
    """

    def encodes(token):
        own = token["content"]
        return not (token.get("lstrip") or token.get("rstrip")) and (_SPACE in own or bytes_of(own) == own.encode())

    def without_prefix(step):
        if not isinstance(step, dict):
            return step
        step = {name: value for name, value in step.items() if name not in ("normalizers", "pretokenizers")} | {
            name: [without_prefix(part) for part in value if not _is_prefix(part)]
            for name, value in step.items()
            if name in ("normalizers", "pretokenizers") and isinstance(value, list)
        }
        if step.get("type") in ("ByteLevel", "Metaspace") and "add_prefix_space" in step:
            step["add_prefix_space"] = False
        if step.get("type") == "Metaspace":
            step["prepend_scheme"] = "never"
        return step

    normalizer, cutter, model = (settings.get(name) for name in ("normalizer", "pre_tokenizer", "model"))
    return settings | {
        "added_tokens": [token | {"special": token["special"] or not encodes(token)} for token in added],
        "normalizer": None if _is_prefix(normalizer) else without_prefix(normalizer),
        "pre_tokenizer": without_prefix(cutter),
        "model": model | {"dropout": None} if isinstance(model, dict) and model.get("dropout") else model,
        "truncation": None,
        "padding": None,
    }


def _is_prefix(step: Any) -> bool:
    return isinstance(step, dict) and step.get("type") == "Prepend"


def _decoder(settings: Any, path: pathlib.Path) -> Callable[[str], bytes]:
    """What turns a piece into bytes, by the settings of the tokenizer's decoder."""
    steps = (
        settings.get("decoders") if isinstance(settings, dict) and settings.get("type") == "Sequence" else [settings]
    )
    if isinstance(steps, list) and steps and all(isinstance(step, dict) for step in steps):
        kinds = [step.get("type") for step in steps]
        if kinds == ["ByteLevel"]:
            return _byte_level
        replaced = {"pattern": {"String": _SPACE}, "content": " "}.items()
        # Strip takes away the space that the normalizer puts before a text, and that none gets here.
        if kinds[:3] == ["Replace", "ByteFallback", "Fuse"] and kinds[3:] in ([], ["Strip"]):
            if replaced <= steps[0].items():
                return _byte_fallback
    raise ValueError(
        f"{path}: a decoder of {_kinds(steps)} is not supported. Known: ByteLevel; and Replace (of {_SPACE!r} by a "
        f"space), ByteFallback, Fuse, with or without Strip. {_OWN}"
    )


def _kinds(steps: Any) -> str:
    return ", ".join(str(step.get("type") if isinstance(step, dict) else step) for step in steps or [None])


def _alphabet() -> dict[str, int]:
    """The bytes by the characters that spell them: Latin-1's visible ones themselves, the rest from U+0100 on."""
    visible = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + i): byte for i, byte in enumerate(hidden)}


_ALPHABET = _alphabet()


def _byte_level(piece: str) -> bytes:
    """A piece with a character that spells no byte stands for itself."""
    try:
        return bytes(_ALPHABET[character] for character in piece)
    except KeyError:
        return piece.encode()


def _byte_fallback(piece: str) -> bytes:
    if re.fullmatch("<0x[0-9A-Fa-f]{2}>", piece):
        return bytes([int(piece[3:5], 16)])
    return _visible(piece)


def _visible(piece: str) -> bytes:
    return piece.replace(_SPACE, " ").encode()


def _spell(
    encode: Callable[[str], list[int]], token_bytes: list[bytes], path: pathlib.Path
) -> Callable[[str], list[int]]:
    """Encodes a visible space in a text, which would be taken for a space, by its bytes."""
    single = {text: token for token, text in reversed(list(enumerate(token_bytes))) if len(text) == 1}
    spelt = [single.get(bytes([byte])) for byte in _SPACE.encode()]
    if None in spelt:
        raise ValueError(f"{path} has no tokens for single bytes, such as <0xE2>. Use a vocabulary with byte fallback.")

    def encode_spelt(text):
        first, *rest = (encode(part) for part in text.split(_SPACE))
        return first + [token for part in rest for token in (*spelt, *part)]

    return encode_spelt


def _cut(pieces: list[str], encode: Callable[[str], list[int]]) -> Callable[[str], list[int]]:
    """Encodes a text that spells one of these pieces in two halves, so that it does not become that token."""
    if not pieces:
        return encode
    spelled = re.compile("|".join(map(re.escape, pieces)))

    def encode_cut(text):
        cuts = [0, *(match.start() + 1 for match in spelled.finditer(text)), len(text)]
        return [token for start, end in zip(cuts, cuts[1:], strict=False) for token in encode(text[start:end])]

    return encode_cut
