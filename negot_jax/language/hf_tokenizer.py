"""Published tokenizers: `tokenizer.json` of the Hugging Face Hub, and SentencePiece models.

Of a vocabulary the game needs the byte string of every token; `PublishedTokenizer` has it, and otherwise what
`tokenizer.Tokenizer` has. Two kinds of `tokenizer.json` are known, by how they turn tokens into text: byte-level
(Qwen3), whose pieces spell bytes by printable characters, and byte fallback (Gemma 3), whose pieces are text with a
visible space.
"""

from collections.abc import Callable, Iterable
import json
import pathlib

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
import tokenizers

from negot_jax.language.tokenizer import Tokenizer

_SPACE = "\u2581"  # The visible space of SentencePiece and of byte-fallback vocabularies.


class PublishedTokenizer:
    """A vocabulary, with what the game needs to know of it.

    Attributes:
      model: the file that it was read from.
      token_bytes: the byte string of every token; empty for control tokens and for ids that no token has.
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

    A text passes as its normaliser leaves it: Qwen3's composes characters (Unicode's NFC), Gemma 3's changes nothing.
    """
    path = pathlib.Path(path)
    settings = json.loads(path.read_text())
    library = tokenizers.Tokenizer.from_file(str(path))
    library.encode_special_tokens = True  # What a text spells is text.
    library.no_padding()
    library.no_truncation()
    bytes_of = _decoder(settings["decoder"], str(path))
    token_bytes = [b""] * _fitting(library.get_vocab_size(with_added_tokens=True), vocab_size, str(path))
    for piece, token in library.get_vocab(with_added_tokens=False).items():
        token_bytes[token] = bytes_of(piece)
    controls = {}
    for added in settings["added_tokens"]:
        token_bytes[added["id"]] = b"" if added["special"] else added["content"].encode()
        if added["special"]:
            controls[added["content"]] = added["id"]
    encode = lambda text: library.encode(text, add_special_tokens=False).ids
    spelt = encode if bytes_of is _byte_level else _spell(encode, token_bytes)
    return PublishedTokenizer(path.read_bytes(), spelt, token_bytes, controls)


def from_sentencepiece(path: str | pathlib.Path, vocab_size: int) -> PublishedTokenizer:
    """Reads a SentencePiece model. It is asked not to put a space before every text, as it does by default.

    Raises:
      ValueError: its normaliser changes texts.
    """
    content = pathlib.Path(path).read_bytes()
    model = sentencepiece_model_pb2.ModelProto.FromString(content)
    normaliser = model.normalizer_spec
    if normaliser.name != "identity" or normaliser.remove_extra_whitespaces:
        raise ValueError(
            f"{path}: normalisation {normaliser.name!r} with remove_extra_whitespaces="
            f"{normaliser.remove_extra_whitespaces} changes texts. Use a model with 'identity' that keeps white space."
        )
    normaliser.add_dummy_prefix = False
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
    size = processor.get_piece_size()
    control = [processor.is_control(token) or processor.is_unknown(token) for token in range(size)]
    token_bytes = [b"" if control[token] else _byte_fallback(processor.id_to_piece(token)) for token in range(size)]
    token_bytes += [b""] * (_fitting(size, vocab_size, str(path)) - size)
    controls = {processor.id_to_piece(token): token for token in range(size) if control[token]}
    return PublishedTokenizer(content, _spell(processor.encode, token_bytes), token_bytes, controls)


def _fitting(size: int, vocab_size: int, path: str) -> int:
    if size > vocab_size:
        raise ValueError(f"{path}: {size} tokens, but model.vocab_size={vocab_size}. Use the model's own tokenizer.")
    return vocab_size


def _decoder(settings: dict, path: str) -> Callable[[str], bytes]:
    """What turns a piece into bytes, by the settings of the tokenizer's decoder."""
    steps = settings["decoders"] if settings["type"] == "Sequence" else [settings]
    kinds = [step["type"] for step in steps]
    if kinds == ["ByteLevel"]:
        return _byte_level
    replaced = {"pattern": {"String": _SPACE}, "content": " "}.items()
    if kinds == ["Replace", "ByteFallback", "Fuse"] and replaced <= steps[0].items():
        return _byte_fallback
    raise ValueError(
        f"{path}: a decoder of {', '.join(kinds)} is not supported. Known: ByteLevel; and Replace (of {_SPACE!r} by a "
        "space), ByteFallback, Fuse."
    )


def _alphabet() -> dict[str, int]:
    """The bytes by the characters that spell them: Latin-1's visible ones themselves, the rest from U+0100 on."""
    visible = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + i): byte for i, byte in enumerate(hidden)}


_ALPHABET = _alphabet()


def _byte_level(piece: str) -> bytes:
    return bytes(_ALPHABET[character] for character in piece)


def _byte_fallback(piece: str) -> bytes:
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return bytes([int(piece[3:5], 16)])
    return piece.replace(_SPACE, " ").encode()


def _spell(encode: Callable[[str], list[int]], token_bytes: list[bytes]) -> Callable[[str], list[int]]:
    """Encodes a visible space in a text, which would be taken for a space, by its bytes."""
    single = {text: token for token, text in reversed(list(enumerate(token_bytes))) if len(text) == 1}
    spelt = [single[bytes([byte])] for byte in _SPACE.encode()]

    def encode_spelt(text):
        first, *rest = (encode(part) for part in text.split(_SPACE))
        return first + [token for part in rest for token in (*spelt, *part)]

    return encode_spelt
