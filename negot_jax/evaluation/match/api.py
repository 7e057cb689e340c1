"""A served model as a player: any endpoint that speaks OpenAI's chat completions, through the official client.

Every answer is kept on disk under a digest of its request, so that a match which was stopped goes on without asking
again. What a server does wrong never becomes a move: see `Endpoint`. The key comes from the environment, and is in no
file, no message and no error.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
import dataclasses
import datetime
import email.utils
import functools
import hashlib
import json
import math
import pathlib
import random
import re
from typing import Any
import urllib.parse

import openai

from negot_jax import cache
from negot_jax.evaluation.match.seats import Reply, View
from negot_jax.game.types import BUYER, Kind
from negot_jax.language import plain
from negot_jax.language.dialect import LEFT, OPENING

ANSWERS = "answers"  # In the folder of a match.

_WAITS = (0.5, 30.0)  # Seconds: the first wait before another try, which doubles, and the longest.
_LONGEST_WISH = 120.0  # Seconds: the longest Retry-After that is honored.
_MOST_TOKENS = 10**9  # Of a prompt or an answer.
_SECRET = 16  # Characters from which a key is no placeholder such as "none", which messages may hold as a word.
_AGAIN = {408, 409, 425, 429}  # Retried, as is every status from 500.
_HOPELESS = {401, 402, 403, 404}  # Every request would fail alike.
_WRONG = {Kind.MISSING: "It has no Action line", Kind.CUT: "It is too long and was cut before its action was complete"}
_REPROMPT = (
    "Your message could not be read. {why}. Write the whole message again: optional Thought and Talk lines, then one "
    "line that begins with Action: and holds exactly one of the actions listed at the beginning, in that form."
)


class StopMatch(Exception):
    """A server refuses every request alike: the match cannot go on. The message holds no key."""


class _Failed(Exception):
    """A request that failed. kind: for counting. again: whether another try may help, after `wait` seconds."""

    def __init__(self, kind: str, told: str, again: bool = True, wait: float = 0.0):
        super().__init__(f"{kind}: {told}")
        self.kind, self.again, self.wait = kind, again, wait


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """A served model, and how it is asked.

    key: sent, and never shown. request: further fields of every request, such as {"temperature": 0.7}. timeout: of a
    whole answer, seconds. retries: further tries after 408, 409, 425, 429, 5xx, a connection that breaks or times out,
    and an answer that is not a completion; the wait between them doubles, with jitter, or is the server's Retry-After.
    concurrency: requests at once. reprompts: whether an unreadable message is asked for once more.
    """

    model: str
    base_url: str
    key: str = dataclasses.field(repr=False)
    request: tuple[tuple[str, Any], ...] = (("max_tokens", 512),)
    timeout: float = 120.0
    retries: int = 5
    concurrency: int = 8
    reprompts: bool = True

    def __post_init__(self):
        try:
            parts = urllib.parse.urlsplit(self.base_url)
            good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and parts.username is None
        except ValueError:
            good = False
        if not good or re.search(r"\s", self.base_url):
            example = "http://127.0.0.1:8000/v1 (without a password)"
            raise ValueError(f"base_url={self.base_url} is no address such as {example}.")
        if not re.fullmatch("[!-~]+", self.key):
            raise ValueError("the API key holds white space or a character that is not ASCII. Set its variable anew.")
        if not 0 < self.timeout < math.inf:
            raise ValueError(f"timeout={self.timeout}: give a number of seconds above 0.")


@dataclasses.dataclass
class Budget:
    """What all answers of a match may take, those of earlier starts included. Mutable: `tokens` and `dollars` grow.

    prices: dollars for a million tokens of prompt and of answer. The requests under way when a limit is reached are
    still paid for.
    """

    max_tokens: int | None = None
    max_dollars: float | None = None
    prices: tuple[float, float] = (0.0, 0.0)
    tokens: int = 0
    dollars: float = 0.0

    def __post_init__(self):
        if self.max_dollars is not None and not 0 <= self.max_dollars < math.inf:
            raise ValueError(f"max_dollars={self.max_dollars} is no amount. Give a number from 0.")

    def charge(self, prompt: int, answer: int) -> None:
        self.tokens += prompt + answer
        self.dollars += (prompt * self.prices[0] + answer * self.prices[1]) / 1e6

    def spent(self) -> str:
        """Which limit is reached, "" if none is."""
        if self.max_tokens is not None and self.tokens >= self.max_tokens:
            return f"the budget of {self.max_tokens:,} tokens is spent"
        if self.max_dollars is not None and self.dollars >= self.max_dollars:
            return f"the budget of ${self.max_dollars:g} is spent"
        return ""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back. text: the message's content, "" for none. finish: why it ended. tokens: of prompt and answer."""

    text: str
    finish: str
    tokens: tuple[int, int]
    refused: bool = False


@dataclasses.dataclass(frozen=True)
class ServedPlayer:
    """A `TextSeat` that asks an endpoint. folder: of the kept answers. counts: what happened, by name; it grows."""

    endpoint: Endpoint
    folder: pathlib.Path
    budget: Budget
    counts: Counter = dataclasses.field(default_factory=Counter)

    def speak(self, views: Sequence[View]) -> list[Reply]:
        """A reply to each view, asked for at once. Raises `StopMatch` if the server refuses every request alike: then
        no more are sent, and the answers under way are kept.
        """

        async def ask_all():
            own, free, stopped = self.endpoint, asyncio.Semaphore(self.endpoint.concurrency), []
            options = {"base_url": own.base_url, "api_key": own.key, "max_retries": 0, "timeout": own.timeout}
            async with openai.AsyncOpenAI(**options) as client:
                ask = functools.partial(self._ask, client, free, stopped)
                replies = await asyncio.gather(*(self._reply(ask, view) for view in views), return_exceptions=True)
            for failed in [*stopped, *(reply for reply in replies if isinstance(reply, BaseException))]:
                raise failed
            return replies

        self.folder.mkdir(parents=True, exist_ok=True)
        return asyncio.run(ask_all())

    async def _reply(self, ask, view: View) -> Reply:
        """The reply to a view; if it cannot be read, the second one."""
        dialogue, where = conversation(view), (view.product, view.episode, view.role, view.turn)
        tokens = 0
        for last in (not self.endpoint.reprompts, True):
            try:
                answer = await ask(dialogue, where)
            except _Failed as failure:
                self.counts[f"failed: {failure.kind}"] += 1
                return Reply(None, tokens, str(failure))
            tokens += answer.tokens[1]
            read = view.read(plain.unwrap(answer.text), answer.finish == "length")
            self.counts["empty"] += not answer.text
            self.counts["refused"] += answer.refused
            self.counts["cut"] += read.cut
            self.counts["unreadable"] += not read.readable
            if read.readable or last:
                return Reply(read, tokens)
            self.counts["asked again"] += 1
            why = _WRONG.get(read.kind, "Its Action line holds no action that is yours, complete and in that form")
            told = {"assistant": answer.text or "(nothing)", "user": _REPROMPT.format(why=why)}
            dialogue = [*dialogue, *({"role": role, "content": content} for role, content in told.items())]

    async def _ask(
        self,
        client: openai.AsyncOpenAI,
        free: asyncio.Semaphore,
        stopped: list[StopMatch],
        dialogue: list,
        where: tuple,
    ) -> Answer:
        """The kept answer to a request, or the server's. stopped: why no more are sent; empty as long as they are."""
        body = {"model": self.endpoint.model, "messages": dialogue, **dict(self.endpoint.request)}
        # Equal requests of different episodes are different draws.
        asked = {"base_url": self.endpoint.base_url, "where": where, "request": body}
        path = self.folder / f"{hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:32]}.json"
        if (answer := _kept(path)) is not None:
            self.counts["kept answers"] += 1
        else:
            async with free:
                if stopped:
                    raise stopped[0]
                try:
                    answer = await self._patiently(client, body)
                except StopMatch as error:
                    stopped.append(error)
                    raise
            self.budget.charge(*answer.tokens)
            with cache.replacing(path) as part:
                part.write_text(json.dumps({**asked, "answer": dataclasses.asdict(answer)}, indent=1), encoding="utf-8")
        return answer

    async def _patiently(self, client: openai.AsyncOpenAI, body: Mapping[str, Any]) -> Answer:
        """An answer, after as many tries as it takes and the endpoint allows."""
        for tried in range(self.endpoint.retries + 1):
            if spent := self.budget.spent():
                raise _Failed("budget", spent, again=False)
            self.counts["requests"] += 1
            try:
                return await self._request(client, body)
            except _Failed as failure:
                self.counts[f"answered by {failure.kind}"] += 1
                if not failure.again or tried == self.endpoint.retries:
                    raise
                self.counts["retries"] += 1
                backoff = min(_WAITS[0] * 2**tried, _WAITS[1]) * random.uniform(0.5, 1.0)
                await asyncio.sleep(max(backoff, failure.wait))

    async def _request(self, client: openai.AsyncOpenAI, body: Mapping[str, Any]) -> Answer:
        """One request. Raises `_Failed`, or `StopMatch`, without the exceptions of the client, which hold the key."""
        create = client.chat.completions.with_raw_response.create
        try:
            # A server may know fields of its own.
            asked = create(model=body["model"], messages=body["messages"], extra_body=dict(self.endpoint.request))
            # The client's own timeout covers each read: a server that trickles would outlast it.
            raw = await asyncio.wait_for(asked, self.endpoint.timeout)
            return parse(self._clean(raw.http_response.text), body)
        except (TimeoutError, openai.APITimeoutError):
            failure: Exception = _Failed("timeout", f"no whole answer within {self.endpoint.timeout:g} s")
        except openai.APIStatusError as error:
            failure = self._of_status(error)
        except openai.APIConnectionError as error:
            failure = _Failed("connection", self._clean(repr(error.__cause__ or error)))
        except _Failed as error:
            failure = error
        except (openai.OpenAIError, ValueError, TypeError, OSError) as error:
            failure = _Failed("no completion", self._clean(repr(error)))
        raise failure from None

    def _of_status(self, error: openai.APIStatusError) -> Exception:
        code, told = error.status_code, self._clean(error.response.text)[:300]
        if code in _HOPELESS:
            own = self.endpoint
            return StopMatch(f"{own.base_url} refuses model {own.model!r} with status {code}: {told}")
        again = code in _AGAIN or code >= 500
        wait = retry_after(error.response.headers.get("retry-after"))
        if wait > _LONGEST_WISH:
            return _Failed(f"status {code}", f"to be asked again after {wait:.0f} s. {told}", again=False)
        return _Failed(f"status {code}", told, again, wait)

    def _clean(self, text: str) -> str:
        """The text without the key, which a server may echo."""
        return text.replace(self.endpoint.key, "[key]") if len(self.endpoint.key) >= _SECRET else text


def charge_kept(folder: pathlib.Path, budget: Budget) -> None:
    """Charges the answers of earlier starts, before anything is asked for."""
    for answer in filter(None, map(_kept, folder.glob("*.json"))):
        budget.charge(*answer.tokens)


def _kept(path: pathlib.Path) -> Answer | None:
    """The answer in a file; None where there is none, or a damaged one."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))["answer"]
        answer = Answer(**kept | {"tokens": tuple(kept["tokens"])})
    except (OSError, ValueError, LookupError, TypeError):
        return None
    whole = isinstance(answer.text, str) and len(answer.tokens) == 2 and all(map(_is_count, answer.tokens))
    return answer if whole else None


def _is_count(value: Any) -> bool:
    """Whether a value is a number of tokens that an answer can have."""
    return type(value) is int and 0 <= value < _MOST_TOKENS


def conversation(view: View) -> list[dict[str, str]]:
    """The request's messages: what the side knows, laid out as a published model on the device reads it.

    The prompt is the system message; the player is the assistant; the other side and the environment are the user.
    """
    said, left = [("system", f"{view.rules}\n{view.about}")], view.turns
    if view.role == BUYER:
        said.append(("user", LEFT.format(left) + OPENING))
    for own, text in view.said:
        left -= own
        said.append(("assistant", text) if own else ("user", LEFT.format(left) + text))
    return [{"role": role, "content": content} for role, content in said]


def parse(text: str, body: Mapping[str, Any]) -> Answer:
    """The answer in a response's text. Raises `_Failed` if it is not a completion.

    Tokens that the server does not count, or beyond belief, are taken to be four bytes each.
    """
    try:
        response = json.loads(text)
        choice = response["choices"][0]
        message = choice["message"]
        content, refusal = message.get("content"), message.get("refusal")
        if isinstance(content, list):  # In parts.
            content = "".join(part.get("text") or "" for part in content)
        if not isinstance(content, str | None) or not isinstance(refusal, str | None):
            raise TypeError("its content is no text")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise _Failed("no completion", f"{type(error).__name__}: {text[:200]!r}") from None
    said = (content or refusal or "").encode(errors="replace").decode()  # JSON can spell half a surrogate pair.
    used = response["usage"] if isinstance(response.get("usage"), dict) else {}
    counted = lambda name: used.get(name) if _is_count(used.get(name)) else None
    estimates = {"prompt_tokens": json.dumps(body["messages"]), "completion_tokens": said}
    tokens = tuple(counted(name) or -(-len(shown.encode()) // 4) for name, shown in estimates.items())
    finish = choice.get("finish_reason") or ""
    return Answer(said, finish, tokens, refused=bool(refusal) or finish == "content_filter")


def retry_after(header: str | None) -> float:
    """Seconds to wait by a Retry-After header, a number or a date; 0 without one that can be read."""
    try:
        seconds = float(header or 0)
    except ValueError:
        try:
            seconds = (email.utils.parsedate_to_datetime(header) - datetime.datetime.now(datetime.UTC)).total_seconds()
        except (ValueError, TypeError):
            return 0.0
    return max(seconds, 0.0) if math.isfinite(seconds) else 0.0
