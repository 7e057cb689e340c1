"""How a dialogue is laid out in a model's context: the prompt, and what the environment writes around messages.

A model writes its messages after one header and reads the other side's after another; both consist of control tokens
and a few fixed words, never of a message's content. `Own` is for the project's tokenizers, `Chat`, with the same
members, for published models in the format that they were trained on.

That format is inferred from the model's template (Jinja, as `transformers` renders it): it renders a conversation of
marks, and the result is split at them. Control tokens stay separate from text, so no message can spell one, and the
tokens of a message fit between them. A template that cannot be split, or that makes the model think aloud, is refused.
"""

from collections.abc import Sequence
import dataclasses
import itertools
import pathlib
import re
from typing import Any

import jinja2
from jinja2 import ext, nodes, sandbox
from jinja2.parser import Parser

from negot_jax import hub
from negot_jax.game.types import BUYER, SELLER
from negot_jax.language import tokenizer as tokens
from negot_jax.language.tokenizer import Tokenizer

LEFT = "Messages left: {}\n"
OPENING = "You speak first."

_TURN = {BUYER: tokens.BUYER_TURN, SELLER: tokens.SELLER_TURN}
# For folders without a template, by a control token that only these have.
_DEFAULTS = {
    "<start_of_turn>": (
        "{{ bos_token }}{% for m in messages %}"
        "{% if m.role == 'system' %}{{ raise_exception('no system messages') }}{% endif %}"
        "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + m.content }}"
        "{{ '<end_of_turn>\n' }}{% endfor %}{{ '<start_of_turn>model\n' }}"
    ),
    "<|im_start|>": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
        "{{ '<|im_start|>assistant\n' }}"
    ),
}
_RULES, _MARKS = "zqRulesqz", tuple(f"zqMark{i}qz" for i in range(5))
_THOUGHT = "zqThoughtqz"
_OPENS_A_THOUGHT = re.compile(r"[<\[]\|?(\w*(?:think|thought|reason)\w*)\|?[>\]](?!.*[<\[]\|?/\1)", re.DOTALL | re.I)
_NOT_THINKING = "Use an instruct model, or one that can be told not to think (enable_thinking=false in its template)."


class Control(str):
    """The name of a control token."""


Pieces = tuple[Control | str, ...]  # Control tokens and the texts between them.


@dataclasses.dataclass(frozen=True)
class Own:
    """A control token says whose message follows; a number after the model's own says how many it has left.

    end: the token that ends a message. closes: whether it is appended to a message that was cut off at its cap.
    """

    tokenizer: Tokenizer
    closes = False
    end = tokens.EOT

    def prompt(self, role: int, rules: str, about: str, text_tokens: int, turns: int) -> list[int]:
        """Everything before the first header. At most `text_tokens` tokens of `about` are kept."""
        text = self.tokenizer.encode(about)[:text_tokens]
        return [tokens.BOS, *self.tokenizer.encode(rules), *text, tokens.EOT]

    def own_header(self, role: int, left: int) -> list[int]:
        """The header of the model's own message. left: how many it may still write, this one included."""
        return [_TURN[role], *self.tokenizer.single_bytes(str(left)).tolist()]

    def other_header(self, role: int, left: int, first: bool) -> list[int]:
        """The header of the other side's message. first: whether it is the other side's first."""
        return [_TURN[1 - role]]


@dataclasses.dataclass(frozen=True)
class Chat:
    """The model is the assistant, the rules the system message, the other side and the environment the user.

    A conversation is start, rules, opening, then alternating messages. ends: the control token after every message of
    user and assistant. reply: between it and what the model is to write. heard: between it, after the assistant's
    message, and the user's next one.
    """

    tokenizer: Tokenizer
    start: Pieces
    opening: Pieces
    ends: Control
    reply: Pieces
    heard: Pieces
    closes = True

    @property
    def end(self) -> int:
        return self.tokenizer.control(self.ends)

    def prompt(self, role, rules, about, text_tokens, turns):
        # A character that was cut in two is left out.
        kept = self.tokenizer.decode(self.tokenizer.encode(about)[:text_tokens]).rstrip("\ufffd")
        if role == BUYER:
            user = f"{kept}\n\n{LEFT.format(turns)}{OPENING}"
            return self.encode(*self.start, rules, *self.opening, user, self.ends)
        # The first thing that the user says is the buyer's message, so the prompt ends where that begins.
        return self.encode(*self.start, f"{rules}\n{kept}", *self.opening)

    def own_header(self, role, left):
        return self.encode(*self.reply)

    def other_header(self, role, left, first):
        return self.encode(*(() if first else self.heard), LEFT.format(left))

    def encode(self, *pieces: Control | str) -> list[int]:
        """The token ids of control tokens and texts in a row; adjacent texts are encoded as one."""
        ids = []
        for kind, group in itertools.groupby(pieces, type):
            run = list(group)
            ids += map(self.tokenizer.control, run) if kind is Control else self.tokenizer.encode("".join(run))
        return ids


Dialect = Own | Chat


def infer_chat(folder: str | pathlib.Path, tokenizer: Tokenizer) -> Chat:
    """The chat format of a checkpoint's folder, by its template or, without one, by its control tokens.

    Raises ValueError if the format is unknown, or the template fails, cannot be split, or opens a thought.
    """
    folder = pathlib.Path(folder)
    read = lambda name: hub.read_json(folder / name) if (folder / name).exists() else {}
    config = read("tokenizer_config.json")
    names = read("special_tokens_map.json") | config
    template, where = _template(folder, config)
    if template is None:
        known = [name for name in _DEFAULTS if name in tokenizer.controls]
        if not known or b"<think>" in tokenizer.token_bytes:
            raise ValueError(
                f"{folder} has no chat template, and {'its model may think' if known else 'its tokens name none'}. "
                "Download chat_template.jinja or tokenizer_config.json of the model; a base model has none."
            )
        template, where = _DEFAULTS[known[0]], folder
    special = {f"{name}_token": _special(names, f"{name}_token", tokenizer) for name in ("bos", "eos", "pad", "unk")}
    try:
        chat, apart = _split(_compile(template), special, tokenizer)
    except ValueError as error:
        raise ValueError(f"{where}: the chat template cannot be used: {error}") from error
    reply = "".join(chat.reply)
    if opened := _OPENS_A_THOUGHT.search(reply):
        raise ValueError(
            f"{where}: the chat template opens {opened[0]} for the model: it would be heard. {_NOT_THINKING}"
        )
    if apart and "</think>" not in reply:
        raise ValueError(f"{where}: the chat template is of a model that thinks aloud. {_NOT_THINKING}")
    return chat


def _special(names: dict[str, Any], name: str, tokenizer: Tokenizer) -> str:
    """The content of a special token; Gemma's first token is required even if no file names it."""
    token = names.get(name)
    token = token.get("content") if isinstance(token, dict) else token
    if isinstance(token, str):
        return token
    return "<bos>" if name == "bos_token" and "<bos>" in tokenizer.controls else ""


def _template(folder: pathlib.Path, config: dict[str, Any]) -> tuple[str | None, pathlib.Path]:
    """The chat template of a checkpoint, from any of the files that may hold it, and that file."""
    if (path := folder / "chat_template.jinja").exists():
        return hub.read_text(path), path
    if (path := folder / "chat_template.json").exists():
        template = hub.read_json(path).get("chat_template")
    else:
        path, template = folder / "tokenizer_config.json", config.get("chat_template")
    if isinstance(template, list):  # Several by name, as {"name": ..., "template": ...}.
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default", template)
    if template is not None and not isinstance(template, str):
        raise ValueError(f"{path}: chat_template={template!r:.80} must be a text. Download it again.")
    return template or None, path


class _Generation(ext.Extension):
    """`{% generation %}` marks what a model says, for those who train on it alone; it writes nothing."""

    tags = frozenset({"generation"})

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _compile(template: str) -> jinja2.Template:
    """Compiles the template as `transformers` does, but without access to the date, so that runs are reproducible."""

    def refuse(message):
        raise jinja2.TemplateError(message)

    environment = sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
    )
    environment.globals["raise_exception"] = refuse
    try:
        return environment.from_string(template)
    except Exception as error:
        raise ValueError(f"{error}. Download it again.") from error


def _render(template: jinja2.Template, special: dict[str, str], said: Sequence[str], system: bool) -> str:
    """Renders a conversation up to the model's reply. Without a system role, the rules begin the first message."""
    first = [("system", _RULES), ("user", said[0])] if system else [("user", f"{_RULES}\n\n{said[0]}")]
    turns = first + [(("user", "assistant")[i % 2], content) for i, content in enumerate(said) if i]
    messages = [{"role": role, "content": content} for role, content in turns]
    options = {"add_generation_prompt": True, "enable_thinking": False, "tools": None, "documents": None}
    try:
        return template.render(messages=messages, **options, **special)
    except Exception as error:  # A template is a program: it may raise anything.
        raise ValueError(f"{error}. Use one for plain messages of user and assistant.") from error


def _split(template: jinja2.Template, special: dict[str, str], tokenizer: Tokenizer) -> tuple[Chat, bool]:
    """Returns the format, and whether the template removes thoughts from earlier replies of the assistant."""

    def texts(count, system):
        marks = (_RULES, *_MARKS[:count])
        rendered = _render(template, special, _MARKS[:count], system)
        cut = re.split("|".join(marks), rendered)
        if re.findall("|".join(marks), rendered) != list(marks):
            raise ValueError("it does not render every message once and in order")
        return cut

    try:
        system, (start, opening, to_reply, to_next, last) = True, texts(3, True)
    except ValueError:
        system, (start, opening, to_reply, to_next, last) = False, texts(3, False)
    one, five = texts(1, system), texts(5, system)
    if five != [start, opening, to_reply, to_next, to_reply, to_next, last] or one != [start, opening, last]:
        raise ValueError("what it writes between messages changes along a conversation")
    pieces = lambda text: _pieces(text, tokenizer)
    (end, *reply), (other_end, *heard) = pieces(last), pieces(to_next)
    if not isinstance(end, Control) or end != other_end:
        raise ValueError(
            f"messages have to end in one control token, those of the user and the assistant alike, and end in {end!r} "
            f"and {other_end!r}"
        )
    if not last.startswith(to_reply):
        raise ValueError(f"the model is to reply after {last!r}, but replied after {to_reply!r}")
    thought = _render(template, special, (_MARKS[0], f"<think>{_THOUGHT}</think>{_MARKS[1]}", _MARKS[2]), system)
    return Chat(tokenizer, pieces(start), pieces(opening), end, tuple(reply), tuple(heard)), _THOUGHT not in thought


def _pieces(text: str, tokenizer: Tokenizer) -> Pieces:
    names = sorted(tokenizer.controls, key=len, reverse=True)
    if not names or not text:
        return (text,)
    cut = re.split(f"({'|'.join(map(re.escape, names))})", text)
    return tuple(Control(piece) if piece in tokenizer.controls else piece for piece in cut if piece)
