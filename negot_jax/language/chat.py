"""Chat formats: what a published model expects around messages, inferred from its own template.

The template (Jinja, as `transformers` renders it) renders a conversation of marks, and the result is split at them.
Control tokens stay separate from text, so no message can spell one, and the tokens of a message fit between them. A
template that cannot be split, or that makes the model think aloud, is refused.
"""

from collections.abc import Iterable, Sequence
import dataclasses
import itertools
import pathlib
import re
from typing import Any

import jinja2
from jinja2 import sandbox

from negot_jax import hub
from negot_jax.language.tokenizer import Tokenizer


class Control(str):
    """The name of a control token."""


Pieces = tuple[Control | str, ...]  # Control tokens and the texts between them.


@dataclasses.dataclass(frozen=True)
class ChatFormat:
    """The pieces around the messages of a conversation: start, rules, opening, then alternating messages.

    start: before the system message. opening: between it and the first message of the user. end: the control token that
    ends every message of user and assistant. reply: between the end of the user's message and what the model is to
    write. heard: between the end of the assistant's message and the user's next one.
    """

    start: Pieces
    opening: Pieces
    end: Control
    reply: Pieces
    heard: Pieces


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


def infer(folder: str | pathlib.Path, tokenizer: Tokenizer) -> ChatFormat:
    """Infers the chat format of a checkpoint's folder from its template or, without one, from its control tokens.

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
        form, apart = _split(_compile(template), special, tokenizer)
    except ValueError as error:
        raise ValueError(f"{where}: the chat template cannot be used: {error}") from error
    reply = "".join(form.reply)
    if opened := _OPENS_A_THOUGHT.search(reply):
        raise ValueError(
            f"{where}: the chat template opens {opened[0]} for the model: it would be heard. {_NOT_THINKING}"
        )
    if apart and "</think>" not in reply:
        raise ValueError(f"{where}: the chat template is of a model that thinks aloud. {_NOT_THINKING}")
    return form


def encode(tokenizer: Tokenizer, pieces: Iterable[Control | str]) -> list[int]:
    """The token ids of a sequence of control tokens and texts; adjacent texts are encoded as one."""
    ids = []
    for kind, group in itertools.groupby(pieces, type):
        run = list(group)
        ids += map(tokenizer.control, run) if kind is Control else tokenizer.encode("".join(run))
    return ids


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


def _compile(template: str) -> jinja2.Template:
    """Compiles the template as `transformers` does, but without access to the date, so that runs are reproducible."""

    def refuse(message):
        raise jinja2.TemplateError(message)

    environment = sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
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


def _split(template: jinja2.Template, special: dict[str, str], tokenizer: Tokenizer) -> tuple[ChatFormat, bool]:
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
    form = ChatFormat(pieces(start), pieces(opening), end, tuple(reply), tuple(heard))
    return form, _THOUGHT not in thought


def _pieces(text: str, tokenizer: Tokenizer) -> Pieces:
    names = sorted(tokenizer.controls, key=len, reverse=True)
    if not names or not text:
        return (text,)
    cut = re.split(f"({'|'.join(map(re.escape, names))})", text)
    return tuple(Control(piece) if piece in tokenizer.controls else piece for piece in cut if piece)
