"""The arguments of a message: the automaton against regular expressions, and examples in words."""

import collections
import functools
import random

import jax
import numpy as np
import pytest
import sentencepiece

from negot_jax.game.types import BUYER, Argument
from negot_jax.language import automaton, grammar, phrases, plain
from negot_jax.language import tokenizer as tokens
from tests.language import vocabularies

EXAMPLES = {
    Argument.COMPARISON: ("I saw it cheaper elsewhere.", "Other shops ask less", "The market price is $40"),
    Argument.DEFECT: ("There is a SCRATCH on it", "It's second-hand!", "That is last year’s model."),
    Argument.BUDGET: ("I can't afford that", "I cant  go any higher", "that is all I have", "money is tight"),
    Argument.LOYALTY: ("I'll come back", "As a loyal\ncustomer, I ask", "I will tell all my friends"),
    Argument.URGENCY: ("I can pay today.", "I'm in a hurry", "cash in hand"),
    Argument.COURTESY: ("Please.", "Thanks a lot", "good-morning to you"),
    Argument.FLATTERY: ("What a lovely shop", "You know your trade", "you’re so kind"),
    Argument.INSULT: ("You are greedy", "What a joke", "that's a rip-off"),
    Argument.THREAT: ("Or I walk away", "TAKE IT OR LEAVE IT", "I will buy elsewhere"),
    Argument.FAIRNESS: ("That is not fair", "Let us meet halfway", "split the difference?"),
}
# Turned round by a negation, or only a part of a word or of a phrase.
SILENT = (
    "I am not in a hurry.",
    "There is no rush; it has no scratches",
    "It isn't really damaged",
    "I won't walk away",
    "don't come back",
    "I do not need it today",
    "greedyness",
    "unpleased",
    "a fairground",
    "can't af-ford",
    "walk. Away",
    "I offer $45",
    "",
)


def _expand(rng, pattern):
    """Some text of a pattern."""
    said = ""
    while pattern:
        if pattern[0] == "{":
            choices, pattern = phrases._choices(pattern)
            said += _expand(rng, rng.choice(choices))
        else:
            character, pattern = pattern[0], pattern[1:]
            said += rng.choice(["'", "’", ""]) if character == "'" else character
    return said


def _talk(rng):
    """Phrases, negations and other words in a row, with odd gaps and cases and a wrong byte now and then."""
    every = [pattern for patterns in phrases.PHRASES.values() for pattern in patterns]
    parts = []
    for _ in range(rng.randint(1, 3)):
        said = _expand(rng, rng.choice(every))
        words = said.split(" ")
        if rng.random() < 0.3:  # A part of a phrase.
            words = words[rng.randrange(len(words)) :][: rng.randint(1, 4)]
        if rng.random() < 0.4:
            words = [*_expand(rng, phrases.NEGATION).split(), *words]
        words += rng.choices(["", "I", "it", "not", "so", "now", "price", "Thought"], k=rng.choice([0, 0, 1, 2]))
        parts.append("".join(word + rng.choice([" "] * 8 + ["  ", "-", "\n", ", ", ". ", ""]) for word in words))
    said = bytearray(rng.choice([str, str.upper, str.title])("".join(parts)).encode())
    for _ in range(rng.choice([0, 0, 0, 1, 2])):
        at = rng.randint(0, len(said))
        said[at : at + rng.randint(0, 2)] = rng.choice(
            [b"", b"s", b" ", b"-", b"'", b"\xe2", b"\x80\x99", b"\xff", b"9"]
        )
    return bytes(said[:120])


def _segment(rng, ids, longest, text):
    """Any token ids that spell the text."""
    said, at = [], 0
    while at < len(text):
        size = rng.randint(1, longest)
        while text[at : at + size] not in ids:
            size -= 1
        said.append(ids[text[at : at + size]])
        at += size
    return said


def _vocabulary(name):
    if name == "bytes":
        return [bytes([byte]) for byte in range(256)] + [b""]
    if name == "ours":
        rng = random.Random(1)
        return list(tokens.train([_talk(rng).decode(errors="ignore") for _ in range(2_000)], 1_500).token_bytes)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(vocabularies.mistral()))
    return [tokens.piece_bytes(processor, token) for token in range(processor.get_piece_size())]


_read = jax.jit(jax.vmap(grammar.read_acts, (None, 0, 0)))


@functools.cache
def _talks():
    rng = random.Random(0)
    said = [_talk(rng) for _ in range(5_000)]
    return said, [plain.acts(talk) for talk in said]


@pytest.mark.parametrize("name", ["bytes", "ours", "mistral"])
def test_the_automaton_hears_what_regular_expressions_find(name):
    """In any spelling of a talk by tokens, with hidden ones between."""
    rng, vocabulary = random.Random(2), _vocabulary(name)
    ids = {text: i for i, text in enumerate(vocabulary) if text}
    longest, (said, expected) = min(max(map(len, ids)), 12), _talks()
    width = 140
    said_BxL, talk_BxL = np.zeros((len(said), width), np.int32), np.zeros((len(said), width), bool)
    for row, text in enumerate(said):
        spelled = _segment(rng, ids, longest, text)
        at = sorted(rng.sample(range(width), len(spelled)))
        said_BxL[row] = rng.choices(range(len(vocabulary)), k=width)
        said_BxL[row, at], talk_BxL[row, at] = spelled, True
    heard = np.asarray(_read(grammar.build_acts(vocabulary), said_BxL, talk_BxL))
    wrong = np.flatnonzero(heard != expected)
    assert not wrong.size, [(said[i], heard[i], expected[i]) for i in wrong[:3]]
    counts = collections.Counter(argument for made in expected for argument in Argument if made >> argument & 1)
    assert min(counts[argument] for argument in Argument) > 100 and expected.count(0) > 500


@functools.cache
def _bytes():
    return grammar.build_acts(_vocabulary("bytes"))


def _hear(texts):
    rows = [np.frombuffer(text.encode(), np.uint8) for text in texts]
    said_BxL = np.zeros((len(rows), 64), np.int32)
    for i, row in enumerate(rows):
        said_BxL[i, : row.size] = row
    return np.asarray(_read(_bytes(), said_BxL, np.arange(64) < np.array([row.size for row in rows])[:, None]))


@pytest.mark.parametrize("argument", Argument)
def test_an_argument_is_heard_in_many_words(argument):
    for said in EXAMPLES[argument]:
        assert plain.acts(said.encode()) == 1 << argument, said
    assert _hear(EXAMPLES[argument]).tolist() == [1 << argument] * len(EXAMPLES[argument])


def test_what_is_no_argument():
    assert _hear(SILENT).tolist() == [0] * len(SILENT)


def test_a_thought_never_counts_and_talk_does():
    built = grammar.build(_vocabulary("bytes"))
    form = "Thought: {}\nTalk: Please\nThought: {}\nTalk: \nbe fair\nAction: [REJECT] I walk away"
    message = form.format("I can't afford it", "you fool").encode()
    said = np.frombuffer(message, np.uint8).astype(np.int32)
    code = automaton.codename_hash(b"a")
    parsed = jax.jit(grammar.parse)(built, said, said.size, False, code, BUYER)
    assert parsed.action.acts == 1 << Argument.COURTESY | 1 << Argument.FAIRNESS


def test_a_pattern_that_does_not_end_is_refused():
    with pytest.raises(ValueError, match="group that does not end"):
        phrases._choices("{a|b")
