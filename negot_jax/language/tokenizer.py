"""SentencePiece tokenizers trained on a catalog and on the game's own phrases.

Everything downstream works on token ids; what a token means to the grammar is its byte string (`token_bytes`).
"""

from collections.abc import Iterable, Sequence
import copy
import functools
import io
import os

from etils import epath
import numpy as np
import sentencepiece

PAD, UNKNOWN, BOS, EOT, BUYER_TURN, SELLER_TURN = range(6)
_CONTROL = ("<eot>", "<buyer>", "<seller>")
# Whole phrases of the message format, so that a small model spends few tokens on form.
_PHRASES = (
    "\n",
    "Thought:",
    "Talk:",
    "Action:",
    " [BUY] $",
    " [SELL] $",
    " [DEAL] $",
    " [REJECT]",
    " [QUIT]",
    " (1x ",
    ")",
    "$",
    ".",
    *"0123456789",
)
_SPACE = "\u2581"  # SentencePiece's visible space.
_SPACE_BYTES = [f"<0x{byte:02X}>" for byte in _SPACE.encode()]


class Tokenizer:
    """A SentencePiece model, with what the game needs to know of it.

    Attributes:
      model: the serialized SentencePiece model. vocab_size: its number of tokens.
      token_bytes: the byte string of every token; empty for control tokens, which leave no trace in a text.

    Raises:
      ValueError: it is no SentencePiece model, or one without the control tokens or without a token for every byte.
    """

    def __init__(self, model: bytes):
        self.model = model
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model or b"empty")
        except RuntimeError as error:
            raise ValueError("tokenizer: damaged, or no SentencePiece model at all.") from error
        self.vocab_size = self._processor.get_piece_size()
        for name, expected in zip(("<pad>", "<unk>", "<bos>", *_CONTROL), range(6), strict=True):
            if (found := self._processor.piece_to_id(name)) != expected:
                there = self._processor.id_to_piece(found) == name
                wrong = f"has id {found}, expected {expected}" if there else "is missing"
                raise ValueError(
                    f"tokenizer: token {name!r} {wrong}. Train it with negot_jax.language.tokenizer.train."
                )
        if missing := sorted({*range(256)} - {text[0] for text in self.token_bytes if len(text) == 1}):
            raise ValueError(
                f"tokenizer: no token for {len(missing)} of the 256 bytes, the first 0x{missing[0]:02X}. "
                "Train it with byte fallback, as negot_jax.language.tokenizer.train does."
            )

    @functools.cached_property
    def token_bytes(self) -> tuple[bytes, ...]:
        return tuple(self._bytes(token) for token in range(self.vocab_size))

    def _bytes(self, token: int) -> bytes:
        processor = self._processor
        if processor.is_control(token) or processor.is_unknown(token):
            return b""
        piece = processor.id_to_piece(token)
        return bytes([int(piece[3:-1], 16)]) if processor.is_byte(token) else piece.replace(_SPACE, " ").encode()

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; control tokens are never produced, whatever the text spells."""
        first, *rest = (self._processor.encode(part) for part in text.split(_SPACE))
        for part in rest:  # SentencePiece takes its visible space for a space: spell it in bytes.
            first += [*map(self._processor.piece_to_id, _SPACE_BYTES), *part]
        return first

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of the tokens' bytes; bytes that are no UTF-8 become the replacement character."""
        return b"".join(self.token_bytes[token] for token in tokens).decode(errors="replace")

    def single_bytes(self, text: str) -> np.ndarray:
        """For each character, the id of the token that is exactly it (int32); an error names one that has none."""
        ids = {piece: token for token, piece in reversed(list(enumerate(self.token_bytes)))}
        missing = [character for character in text if character.encode() not in ids]
        if missing:
            raise ValueError(
                f"tokenizer: no token for the single character {missing[0]!r}, which the price grammar writes. "
                "Use a vocabulary with single-byte tokens (byte fallback)."
            )
        return np.array([ids[character.encode()] for character in text], np.int32)


def load(path: str | os.PathLike) -> Tokenizer:
    """Reads the file of a `model`. Errors name the file."""
    try:
        return Tokenizer(epath.Path(path).read_bytes())
    except ValueError as error:
        raise ValueError(
            f"{path}: {error} Put a copy back; or delete it, and the training command makes it anew."
        ) from error


def widened(tokenizer: Tokenizer, vocab_size: int) -> Tokenizer:
    """The same tokenizer with a larger vocabulary, whose further tokens have no bytes."""
    wide = copy.copy(tokenizer)
    wide.vocab_size = vocab_size
    wide.token_bytes = (*tokenizer.token_bytes, *[b""] * (vocab_size - tokenizer.vocab_size))
    return wide


def pad(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Rows of token ids as one array, int32[rows, L], padded on the right to the longest."""
    padded = np.full((len(rows), max(map(len, rows))), PAD, np.int32)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = ids
    return padded


def train(texts: Sequence[str], vocab_size: int, whole: Sequence[str] = ()) -> Tokenizer:
    """A tokenizer of at most `vocab_size` tokens, with byte fallback and every digit apart.

    Text passes unchanged: no normalization, no dummy prefix, white space kept; so decode(encode(x)) == x.

    Args:
      whole: strings that are one token each wherever they stand, besides the message format's own phrases.
    """
    sink = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=sink,
            vocab_size=vocab_size,
            hard_vocab_limit=False,
            model_type="bpe",
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            pad_id=PAD,
            unk_id=UNKNOWN,
            bos_id=BOS,
            eos_id=-1,
            pad_piece="<pad>",
            bos_piece="<bos>",
            control_symbols=list(_CONTROL),
            user_defined_symbols=[phrase.replace(" ", _SPACE) for phrase in (*_PHRASES, *whole)],
            max_sentence_length=1 << 16,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ValueError(
            f"language.vocab_size={vocab_size} does not fit the training texts ({error}). "
            "A vocabulary holds 256 bytes, the game's phrases and the texts' characters: use 512 or more."
        ) from error
    return Tokenizer(sink.getvalue())
