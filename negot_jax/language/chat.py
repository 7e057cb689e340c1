"""Chat formats: the texts and control tokens that a published model expects around messages.

They are those of the models' own templates, without tools. Control tokens are apart from text, so that no message can
spell one, and a message's tokens can be put between them one by one.
"""

from collections.abc import Sequence
import dataclasses
import json
import pathlib
from typing import Literal, NamedTuple

from negot_jax.language.hf_tokenizer import PublishedTokenizer

Role = Literal["system", "user", "assistant"]


class Message(NamedTuple):
    role: Role
    content: str


class Control(str):
    """The name of a control token."""


@dataclasses.dataclass(frozen=True)
class ChatFormat:
    """How a model is spoken to.

    Attributes:
      start: before a conversation. opening, closing: around a message; the opening goes on with the role's name and a
      newline, and the closing ends in a newline.
      assistant: the name of the role that the model speaks in.
      reply: text after the opening of the message that the model is to write.
      system_in_user: the first user message takes the system message in, with an empty line between them.
      trims: messages lose the white space around them.
      thinks: what the model thought, up to "</think>", is left out of the messages that it reads.
    """

    opening: Control
    closing: Control
    start: Control | None = None
    assistant: str = "assistant"
    reply: str = ""
    system_in_user: bool = False
    trims: bool = False
    thinks: bool = False


FORMATS = {
    # Qwen3-*-Instruct-2507.
    "qwen3-instruct": ChatFormat(Control("<|im_start|>"), Control("<|im_end|>")),
    # The Qwen3 models that may think, told not to (`enable_thinking=False`).
    "qwen3": ChatFormat(Control("<|im_start|>"), Control("<|im_end|>"), reply="<think>\n\n</think>\n\n", thinks=True),
    "gemma3": ChatFormat(
        Control("<start_of_turn>"),
        Control("<end_of_turn>"),
        start=Control("<bos>"),
        assistant="model",
        system_in_user=True,
        trims=True,
    ),
}


def infer(folder: str | pathlib.Path, tokenizer: PublishedTokenizer) -> ChatFormat:
    """The chat format of the checkpoint in a folder: by its template, or, where it has none, by its control tokens.

    Raises:
      ValueError: neither is of a known format.
    """
    template = _template(pathlib.Path(folder))
    told = template if template else " ".join(tokenizer.controls)
    if "<|im_start|>" in told:
        return FORMATS["qwen3" if "enable_thinking" in told else "qwen3-instruct"]
    if "<start_of_turn>" in told:
        return FORMATS["gemma3"]
    raise ValueError(
        f"{folder}: its chat format is not known, by {'its template' if template else 'the control tokens'}. Known: "
        f"{', '.join(FORMATS)}."
    )


def _template(folder: pathlib.Path) -> str:
    """The chat template that came with a checkpoint, in either of the places where it may be; empty for none."""
    if (path := folder / "chat_template.jinja").exists():
        return path.read_text(encoding="utf-8")
    if (path := folder / "tokenizer_config.json").exists():
        return str(json.loads(path.read_text(encoding="utf-8")).get("chat_template") or "")
    return ""


def parts(form: ChatFormat, messages: Sequence[Message]) -> list[Control | str]:
    """A conversation up to where the model is to reply: control tokens, and the texts between them.

    Raises:
      ValueError: the messages are not an optional system message, then user and assistant by turns from user to user.
    """
    system = messages[0].content if messages and messages[0].role == "system" else None
    turns = messages if system is None else messages[1:]
    if [role for role, _ in turns] != ["user", "assistant"] * (len(turns) // 2) + ["user"]:
        raise ValueError(
            f"chat: roles {[role for role, _ in messages]}; a conversation is a system message or none, then user and "
            "assistant by turns, a user message first and last."
        )
    said = [(role, _as_read(form, role, content)) for role, content in turns]
    if system is not None and form.system_in_user:
        said[0] = ("user", f"{system}\n\n{said[0][1]}")
    elif system is not None:
        said.insert(0, ("system", system))
    pieces: list[Control | str] = [] if form.start is None else [form.start]
    for role, content in said:
        name = form.assistant if role == "assistant" else role
        pieces += [form.opening, f"{name}\n{content}", form.closing, "\n"]
    return [*pieces, form.opening, f"{form.assistant}\n{form.reply}"]


def _as_read(form: ChatFormat, role: Role, content: str) -> str:
    if form.thinks and role == "assistant" and "</think>" in content:
        content = content.split("</think>")[-1].lstrip("\n")
    return content.strip() if form.trims else content


def encode(form: ChatFormat, tokenizer: PublishedTokenizer, messages: Sequence[Message]) -> list[int]:
    """The token ids of `parts`; what a message spells is text, even if it is the name of a control token."""
    return encode_parts(tokenizer, parts(form, messages))


def encode_parts(tokenizer: PublishedTokenizer, pieces: Sequence[Control | str]) -> list[int]:
    """The token ids of control tokens and texts in a row."""
    ids = []
    for piece in pieces:
        ids += [tokenizer.control(piece)] if isinstance(piece, Control) else tokenizer.encode(piece)
    return ids
