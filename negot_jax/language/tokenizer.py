"""SentencePiece tokenizers trained on a catalog and the game's phrases. To the grammar a token is its byte string."""

from collections.abc import Callable, Iterable, Sequence
import dataclasses
import io
import os

from etils import epath
import numpy as np
import sentencepiece

PAD, UNKNOWN, BOS, EOT, BUYER_TURN, SELLER_TURN = range(6)
_CONTROL = ("<eot>", "<buyer>", "<seller>")
# Whole phrases of the message format, so that a small model spends few tokens on form.
_PHRASES = ("\n", "Thought:", "Talk:", "Action:", " [BUY] $", " [SELL] $", " [DEAL] $", " [REJECT]", " [QUIT]", " (1x ")
_PHRASES += (")", "$", ".", *"0123456789")
SPACE = "\u2581"  # The visible space by which SentencePiece spells a space.


@dataclasses.dataclass(frozen=True, eq=False)
class Tokenizer:
    """A vocabulary, with what the game needs to know of it.

    model: the content of the file that it was read from. encode: text to token ids, never a control token, whatever
    the text spells. token_bytes: the byte string of every token; empty for control tokens and unused ids. controls: the
    ids of control tokens by name, such as "<|im_end|>".
    """

    model: bytes
    encode: Callable[[str], list[int]]
    token_bytes: tuple[bytes, ...]
    controls: dict[str, int]

    @property
    def vocab_size(self) -> int:
        return len(self.token_bytes)

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of the tokens' bytes; bytes that are not UTF-8 become the replacement character."""
        return b"".join(self.token_bytes[token] for token in tokens).decode(errors="replace")

    def single_bytes(self, text: str) -> np.ndarray:
        """The ids, int32[len(text)], of the tokens that are one byte each. Raises ValueError if one is missing.

        With byte fallback a byte has two: the one that `encode` gives is what a model has read.
        """
        ids = {piece: token for token, piece in reversed(list(enumerate(self.token_bytes)))}
        given = [token for character in text for token in self.encode(character)[-1:]]
        ids |= {self.token_bytes[token]: token for token in given}
        missing = [character for character in text if character.encode() not in ids]
        if missing:
            raise ValueError(
                f"tokenizer: no token for the single character {missing[0]!r}, which messages need. "
                "Use a vocabulary with single-byte tokens (byte fallback)."
            )
        return np.array([ids[character.encode()] for character in text], np.int32)

    def control(self, name: str) -> int:
        """The id of a control token."""
        if name not in self.controls:
            raise ValueError(
                f"tokenizer: no control token {name!r}; there are {', '.join(sorted(self.controls)[:20])}. "
                "Use the chat format that the model was trained with."
            )
        return self.controls[name]


def from_model(model: bytes) -> Tokenizer:
    """The tokenizer of a model of `train`. Raises ValueError without its control tokens or a token for every byte."""
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=model or b"empty")
    except RuntimeError as error:
        raise ValueError("tokenizer: damaged, or no SentencePiece model at all.") from error
    controls = {name: token for token, name in enumerate(("<pad>", "<unk>", "<bos>", *_CONTROL))}
    for name, expected in controls.items():
        if (found := processor.piece_to_id(name)) != expected:
            there = processor.id_to_piece(found) == name
            wrong = f"has id {found}, expected {expected}" if there else "is missing"
            raise ValueError(f"tokenizer: token {name!r} {wrong}. Train it with negot_jax.language.tokenizer.train.")
    token_bytes = tuple(piece_bytes(processor, token) for token in range(processor.get_piece_size()))
    if missing := sorted({*range(256)} - {text[0] for text in token_bytes if len(text) == 1}):
        raise ValueError(
            f"tokenizer: no token for {len(missing)} of the 256 bytes, the first 0x{missing[0]:02X}. "
            "Train it with byte fallback, as negot_jax.language.tokenizer.train does."
        )
    return Tokenizer(model, spelling_out_spaces(processor.encode, token_bytes), token_bytes, controls)


def load(path: str | os.PathLike) -> Tokenizer:
    """Reads a file that holds a `model`. Errors name the file."""
    try:
        return from_model(epath.Path(path).read_bytes())
    except ValueError as error:
        raise ValueError(
            f"{path}: {error} Put a copy back; or delete it, and the training command makes it anew."
        ) from error


def piece_bytes(processor: sentencepiece.SentencePieceProcessor, token: int) -> bytes:
    """The bytes of a SentencePiece token; none for its control tokens."""
    if processor.is_control(token) or processor.is_unknown(token):
        return b""
    piece = processor.id_to_piece(token)
    return bytes([int(piece[3:-1], 16)]) if processor.is_byte(token) else piece.replace(SPACE, " ").encode()


def spelling_out_spaces(encode: Callable[[str], list[int]], token_bytes: Sequence[bytes]) -> Callable[[str], list[int]]:
    """Wraps `encode` to encode a visible space by its bytes, which SentencePiece would take for a plain space.

    Raises ValueError if there are no tokens for these bytes.
    """
    single = {text: token for token, text in reversed(list(enumerate(token_bytes))) if len(text) == 1}
    spelled = [single.get(bytes([byte])) for byte in SPACE.encode()]
    if None in spelled:
        raise ValueError("no tokens for single bytes, such as <0xE2>: it needs a vocabulary with byte fallback")

    def encode_spelled(text):
        first, *rest = (encode(part) for part in text.split(SPACE))
        return first + [token for part in rest for token in (*spelled, *part)]

    return encode_spelled


def widened(tokenizer: Tokenizer, vocab_size: int) -> Tokenizer:
    """Returns the tokenizer with a larger vocabulary; the added tokens have no bytes."""
    unused = [b""] * (vocab_size - tokenizer.vocab_size)
    return dataclasses.replace(tokenizer, token_bytes=(*tokenizer.token_bytes, *unused))


def pad(rows: Sequence[Sequence[int]], fill: int = PAD) -> np.ndarray:
    """Stacks rows of token ids into int32[rows, L], padded on the right to the longest."""
    padded = np.full((len(rows), max(map(len, rows))), fill, np.int32)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = ids
    return padded


def train(texts: Sequence[str], vocab_size: int, whole: Sequence[str] = ()) -> Tokenizer:
    """Trains a tokenizer of at most `vocab_size` tokens, with byte fallback and one token per digit.

    There is no normalization and no dummy prefix, and white space is kept, so decode(encode(x)) == x. whole: strings
    that always become a single token, besides the phrases of the message format.
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
            user_defined_symbols=[phrase.replace(" ", SPACE) for phrase in (*_PHRASES, *whole)],
            max_sentence_length=1 << 16,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ValueError(
            f"language.vocab_size={vocab_size} does not fit the training texts ({error}). "
            "A vocabulary holds 256 bytes, the game's phrases and the texts' characters: use 512 or more."
        ) from error
    return from_model(sink.getvalue())
