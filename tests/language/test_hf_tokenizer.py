"""Published tokenizers: their tokens' bytes are the text, and the grammar reads them as its oracle does."""

import json
import random
import unicodedata

from hypothesis import given
from hypothesis import strategies as st
import jax
import pytest
import sentencepiece
import tokenizers

from negot_jax.game.types import BUYER, SELLER, Kind
from negot_jax.language import grammar, hf_tokenizer
from tests.language import test_grammar, vocabularies

VOCAB = 33_000  # Above all three.
KINDS = ["qwen3", "gemma3", "mistral"]
# Any text, and texts of what means something to the message format, to tokenizers or to their normalizers.
_PARTS = (
    r"<|im_end|> <end_of_turn> <think> </s> [INST] <0x41> \u2581 \u2047 \ufb01 \u00e9 \u3000 \0 Talk: $12.50 toys_3"
)
_PARTS = [*_PARTS.encode().decode("unicode_escape").split(" "), " ", "  ", "\n", "\r\n", "\t", " [BUY] $"]
TEXTS = st.text() | st.lists(st.sampled_from(_PARTS)).map("".join)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    make = {name: getattr(vocabularies, name) for name in ("qwen3", "gemma3")}
    return {name: f(tmp_path_factory.mktemp(name)) for name, f in make.items()} | {"mistral": vocabularies.mistral()}


@pytest.fixture(scope="module")
def published(paths):
    read = lambda name: hf_tokenizer.from_sentencepiece if name == "mistral" else hf_tokenizer.from_json
    return {name: read(name)(path, VOCAB) for name, path in paths.items()}


@given(text=TEXTS)
def test_decode_inverts_encode(published, text):
    for name, tokenizer in published.items():
        expected = unicodedata.normalize("NFC", text) if name == "qwen3" else text
        ids = tokenizer.encode(text)
        assert b"".join(tokenizer.token_bytes[token] for token in ids) == expected.encode()
        assert tokenizer.decode(ids) == expected
        assert set(tokenizer.controls.values()).isdisjoint(ids)


@pytest.mark.parametrize("name", KINDS)
def test_tokens_are_those_of_the_library(paths, published, name):
    """Of ordinary texts, and what any tokens say together, where they say something."""
    tokenizer, rng = published[name], random.Random(0)
    if name == "mistral":
        library = sentencepiece.SentencePieceProcessor(model_file=str(paths[name]))
        encode = lambda text: library.encode("\n" + text)[2:]  # Without the space that it puts before a text.
        size, decode = library.get_piece_size(), lambda ids: library.decode(ids)
    else:
        library = tokenizers.Tokenizer.from_file(str(paths[name]))
        encode = lambda text: library.encode(text, add_special_tokens=False).ids
        size, decode = library.get_vocab_size(), lambda ids: library.decode(ids, skip_special_tokens=True)
    for text in (
        "Talk: Fair enough,  I can pay more.\nAction: [BUY] $1,250.75 (1x toys_3)",
        "n\u00e9 \u6f22\u5b57 \U0001f600",
    ):
        assert tokenizer.encode(text) == encode(text)
    text_ids = [token for token in range(size) if tokenizer.token_bytes[token]]
    assert len(text_ids) == size - len(tokenizer.controls)
    newline, compared = int(tokenizer.single_bytes("\n")[0]), 0
    for _ in range(2000):
        ids = [newline, *rng.choices(text_ids, k=rng.randint(1, 6))]  # A space at the start may be taken away.
        try:
            said = b"".join(tokenizer.token_bytes[token] for token in ids).decode()
        except UnicodeDecodeError:
            continue
        compared += 1
        assert decode(ids) == said
    assert compared > 500


@pytest.mark.parametrize("name, end", [("qwen3", "<|im_end|>"), ("gemma3", "<end_of_turn>"), ("mistral", "</s>")])
def test_control_tokens_and_unused_ids_leave_no_bytes(published, name, end):
    tokenizer = published[name]
    assert tokenizer.vocab_size == len(tokenizer.token_bytes) == VOCAB
    silent = {token for token, text in enumerate(tokenizer.token_bytes) if not text}
    used = max(set(range(VOCAB)) - silent) + 1
    assert {token for token in silent if token < used} == {t for t in tokenizer.controls.values() if t < used}
    assert tokenizer.control(end) in silent
    with pytest.raises(ValueError, match="no control token '<other>'; there are"):
        tokenizer.control("<other>")


@pytest.mark.parametrize("name", KINDS)
def test_every_byte_and_every_digit_is_a_token(published, name):
    tokenizer = published[name]
    assert {bytes([byte]) for byte in range(256)} <= set(tokenizer.token_bytes)
    ids = tokenizer.single_bytes("0123456789.")
    assert tokenizer.decode(ids.tolist()) == "0123456789."
    # Of two tokens for a byte, that which a model has read in ordinary text.
    assert ids.tolist() == [tokenizer.encode(digit)[-1] for digit in "0123456789."]


def test_thoughts_are_text(published):
    (token,) = published["qwen3"].encode("<think>")
    assert published["qwen3"].token_bytes[token] == b"<think>"


class _Vocabulary(test_grammar._Vocabulary):
    def __init__(self, tokenizer, folder):
        self.tokens = tokenizer.token_bytes
        self.grammar = grammar.load(tokenizer.token_bytes, folder)
        self.ids = {text: token for token, text in enumerate(self.tokens)}
        self.longest = 12


@pytest.mark.parametrize("count", [4_000, pytest.param(200_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", KINDS)
def test_the_grammar_equals_its_oracle(published, tmp_path, name, count):
    """On messages as the tokenizer cuts them, as nothing would cut them, and on random tokens."""
    tokenizer, rng = published[name], random.Random(name)
    vocabulary, rows = _Vocabulary(tokenizer, tmp_path), []
    frequent = [token for token, text in enumerate(tokenizer.token_bytes) if len(text) < 3 or b":" in text]
    for i in range(count):
        codename = rng.choice(test_grammar.CODENAMES)
        if i % 5 < 3:
            ids = tokenizer.encode(test_grammar._message(rng, codename.decode()).decode(errors="replace"))
        elif i % 5 == 3:
            ids = vocabulary.segment(rng, test_grammar._message(rng, codename.decode()))
        else:
            ids = rng.choices(frequent, k=rng.randint(0, 40))
        rows.append((ids[: test_grammar.LENGTH], rng.random() < 0.3, codename, rng.choice([BUYER, SELLER])))
    kinds = test_grammar._check_against_oracle(vocabulary, rows)
    assert kinds.total() == count and min(kinds[kind] for kind in Kind) > count / 200, kinds


def test_tables_from_disk_are_those_that_are_built(published, tmp_path, monkeypatch):
    token_bytes = published["gemma3"].token_bytes[:3000]
    built = grammar.build(token_bytes)
    first = grammar.load(token_bytes, tmp_path / "new")
    (file,) = (tmp_path / "new").iterdir()
    other = grammar.load([*token_bytes[:-1], b"x"], tmp_path / "new")
    assert len(list((tmp_path / "new").iterdir())) == 2 and other.class_V[-1] != built.class_V[-1]
    monkeypatch.setattr(grammar, "build", None)  # From here on everything is read.
    again = grammar.load(token_bytes, tmp_path / "new")
    for tables in (first, again):
        leaves = zip(jax.tree.leaves(tables), jax.tree.leaves(built), strict=True)
        assert all(a.dtype == b.dtype and (a == b).all() for a, b in leaves)


def test_a_folder_is_read_by_what_is_in_it(paths, published, tmp_path):
    with pytest.raises(ValueError, match="neither tokenizer.json nor tokenizer.model"):
        hf_tokenizer.load(tmp_path, VOCAB)
    (tmp_path / "tokenizer.model").write_bytes(paths["mistral"].read_bytes())
    assert hf_tokenizer.load(tmp_path, VOCAB).token_bytes == published["mistral"].token_bytes
    (tmp_path / "tokenizer.json").write_bytes(paths["qwen3"].read_bytes())
    assert hf_tokenizer.load(tmp_path, VOCAB).token_bytes == published["qwen3"].token_bytes


def test_a_run_of_spaces_is_text_in_every_form(published):
    """Gemma's vocabulary has tokens for runs of visible spaces: of the text they are spaces."""
    tokenizer = published["gemma3"]
    runs = [b" " * run for run in range(2, 32)]
    assert set(runs) <= set(tokenizer.token_bytes)
    produced = {tokenizer.token_bytes[token] for run in runs for token in tokenizer.encode(f"a{run.decode()}b")}
    assert set(runs) <= produced
    assert all(tokenizer.decode(tokenizer.encode(f"a{run.decode()}b")) == f"a{run.decode()}b" for run in runs)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("qwen3", "\u0111em", b"\x11em"),  # Of characters that spell bytes.
        ("qwen3", "\u0111em \u00d6", "\u0111em \u00d6".encode()),
        ("gemma3", "<0x41>", b"A"),
        ("gemma3", "a\u2581b", b"a b"),
    ],
)
def test_an_added_token_says_what_the_decoder_makes_of_it(paths, tmp_path, name, content, said):
    settings = json.loads(paths[name].read_text())
    vocabulary, others = settings["model"]["vocab"], len(vocabularies.QWEN3_CONTROLS) + 2 if name == "qwen3" else 0
    token = vocabulary.get(content, len(vocabulary) + others)
    settings["added_tokens"].append({**settings["added_tokens"][-1], "id": token, "content": content})
    (tmp_path / "tokenizer.json").write_text(json.dumps(settings))
    tokenizer = hf_tokenizer.load(tmp_path, VOCAB)
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.token_bytes[token] == said == library.decode([token]).encode()
    assert tokenizer.decode(tokenizer.encode(f"x{content}y")) == f"x{content}y"


def test_turns_that_are_not_marked_as_special_are_control_tokens(paths, tmp_path):
    settings = json.loads(paths["qwen3"].read_text())
    (start,) = [token for token in settings["added_tokens"] if token["content"] == "<|im_start|>"]
    start["special"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(settings))
    tokenizer = hf_tokenizer.load(tmp_path, VOCAB)
    ids = tokenizer.encode("<|im_start|>system")
    assert tokenizer.controls["<|im_start|>"] == start["id"] not in ids
    assert tokenizer.decode(ids) == "<|im_start|>system"


def test_a_control_token_that_any_text_can_spell_is_refused(tmp_path):
    """By a vocabulary that holds it whole, which the model takes before it looks at merges."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    library = tokenizers.Tokenizer(
        tokenizers.models.BPE({**{own: i for i, own in enumerate(alphabet)}, "<|im_end|>": 256}, [], ignore_merges=True)
    )
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    library.decoder = tokenizers.decoders.ByteLevel()
    library.add_special_tokens(["<|im_end|>"])
    library.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match="spells its control token '<.im_end.>' is read as that token"):
        hf_tokenizer.load(tmp_path, 300)


def test_turns_of_a_sentencepiece_model_are_control_tokens(tmp_path):
    """As Gemma's, which has them among the pieces that any text may spell."""
    pieces = [*vocabularies.GEMMA3_CONTROLS[4:], "\u2581\u2581", "<b>"]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["I can pay $12.50 for (1x toys_3)"] * 9),
        model_prefix=str(tmp_path / "tokenizer"),
        vocab_size=320,
        hard_vocab_limit=False,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=pieces,
        minloglevel=2,
    )
    tokenizer = hf_tokenizer.load(tmp_path, 400)
    assert {"<start_of_turn>", "<end_of_turn>", "<s>", "</s>"} <= tokenizer.controls.keys()
    assert "<b>" not in tokenizer.controls
    for text in ("a  b<b>", "<<start_of_turn>user\nI pay<end_of_turn>", "</s><end_of_turn><start_of_turn>"):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text and set(tokenizer.controls.values()).isdisjoint(ids)


def test_what_does_not_fit_is_refused(paths, tmp_path):
    with pytest.raises(ValueError, match=r"tokens, but model\.vocab_size=1000"):
        hf_tokenizer.from_json(paths["qwen3"], 1000)
    settings = json.loads(paths["gemma3"].read_text())
    # What Llama 2 puts before a text, and takes away again.
    settings["decoder"]["decoders"].append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    steps = [{"type": "Prepend", "prepend": "\u2581"}, settings["normalizer"]]
    settings["normalizer"] = {"type": "Sequence", "normalizers": steps}
    (tmp_path / "tokenizer.json").write_text(json.dumps(settings))
    tokenizer = hf_tokenizer.load(tmp_path, VOCAB)
    assert all(tokenizer.decode(tokenizer.encode(text)) == text for text in ("a", " a", "  a b "))
    settings["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, steps[1]]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="tokenizer.json changes texts: 'BUY\\] Str"):
        hf_tokenizer.load(tmp_path, VOCAB)
    settings["decoder"] = {"type": "WordPiece"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="decoder of WordPiece is not supported"):
        hf_tokenizer.load(tmp_path, VOCAB)
    trained = tmp_path / "other"
    texts = iter(["a b c d e f g"] * 9)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=texts, model_prefix=str(trained), vocab_size=20, hard_vocab_limit=False, minloglevel=2
    )
    with pytest.raises(ValueError, match="normalization 'nmt_nfkc' .*Use a model with 'identity'"):
        hf_tokenizer.from_sentencepiece(trained.with_suffix(".model"), VOCAB)
