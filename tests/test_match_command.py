"""Matches from the command line: killed and resumed against a server, and played by a person in a terminal."""

import json
import os
import pty
import re
import select
import time

import pytest

from negot_jax.run import match
from tests import forked
from tests.evaluation.match import served
from tests.evaluation.match.stub import KEY, Server, completion, serving
from tests.language import vocabularies
from tests.models import published

SMALL = ["--config.game.turns=2", "--config.evaluation.episodes=2", "--config.evaluation.batch=8"]


def match_of(*arguments: str) -> tuple[str, list[str]]:
    """A small match's command against a scripted seller."""
    return "experiments.match", [*SMALL, "--seller=neutral", *arguments]


def _buys(number, body):
    """An offer of a dollar for the product that the prompt names."""
    code = re.search(r"\(1x (\S+)\)", body["messages"][0]["content"])[1]
    return 200, {}, completion(f"Talk: Please.\nAction: [BUY] $1 (1x {code})")


def test_a_killed_match_goes_on_without_asking_twice(tmp_path):
    server = Server(_buys, seconds=0.2)
    with serving(server) as url:
        played = match_of(f"--buyer=api:m@{url}", "--products=4", f"--output={tmp_path}", "--concurrency=1")
        with forked.running(*played, environment={"OPENAI_API_KEY": KEY}) as process:
            while len(server.bodies) < 5 and process.is_alive():
                time.sleep(0.02)
        asked = len(server.bodies)
        assert 5 <= asked < 16
        code, out, err = forked.run(*played, environment={"OPENAI_API_KEY": KEY})
    assert code == 0, err
    # 4 products x 2 episodes x 2 turns; only what was under way at the kill was asked for again.
    assert 16 <= len(server.bodies) <= 17 and len(list((tmp_path / "answers").iterdir())) == 16
    counts = json.loads((tmp_path / "servers.json").read_text())
    assert counts["buyer"]["kept answers"] in (asked - 1, asked) and counts["all"]["tokens"] == 160
    assert "n complete" in out and "deal" in (tmp_path / "table.md").read_text()
    assert KEY not in out + err + "".join(p.read_text() for p in tmp_path.rglob("*") if p.is_file())


@pytest.mark.slow
def test_a_killed_match_against_a_real_server_goes_on(tmp_path):
    """`transformers serve` on a random checkpoint. 8 of its tokens are no message, so each is asked for twice."""
    model = tmp_path / "model"
    model.mkdir()
    published.with_tokenizer("llama-scaled-rope", vocabularies.qwen3, model)
    with served.serving(model, tmp_path) as (url, log):
        asked = lambda: log.read_text().count("POST /v1/chat/completions")
        settings = ["--config.evaluation.episodes=1", '--request={"max_tokens": 8}', f"--output={tmp_path / 'match'}"]
        played = match_of(f"--buyer=api:{model}@{url}", "--products=4", "--concurrency=1", *settings)
        with forked.running(*played, environment={"OPENAI_API_KEY": "none"}) as killed:
            while asked() < 2 and killed.is_alive():
                time.sleep(0.01)
        assert asked() < 8
        code, _, err = forked.run(*played, environment={"OPENAI_API_KEY": "none"})
    assert code == 0, err
    assert 8 <= asked() <= 9  # Only what was under way at the kill was asked for again.
    episodes = [json.loads(line) for line in (tmp_path / "match/episodes.jsonl").read_text().splitlines()]
    assert len(episodes) == 4 and all(own["messages"][0]["text"] for own in episodes)


def test_a_person_plays_in_a_terminal(tmp_path):
    parent, child = pty.openpty()
    played = match_of("--buyer=person", "--products=1", "--config.evaluation.episodes=1", f"--output={tmp_path}")
    shown = unread = ""

    def wait_for(what: str) -> None:
        """Reads on until it is shown. What comes at once with it is left for the next call."""
        nonlocal shown, unread
        while what not in unread:
            assert select.select([parent], [], [], 120)[0], unread
            unread += os.read(parent, 4096).decode(errors="replace")
        shown, _, unread = unread.partition(what)

    def type_line(text: str) -> None:
        os.write(parent, f"{text}\n".encode())

    with forked.running(*played, streams=(os.ttyname(child),) * 3):
        wait_for("your move")
        assert "your budget" in shown and "deal:" not in shown
        type_line("deal")
        wait_for("your move")
        assert "nothing to accept" in shown
        type_line("offer 9,999,999")
        wait_for("your move")
        assert "above your budget" in shown
        type_line("offer 1")
        wait_for("say something")
        os.write(parent, b"\xe9\n")
        wait_for("Type it again")
        wait_for("say something")
        type_line("Good morning.")
        wait_for("your move")
        assert "the seller says" in shown and "deal: accept $" in shown
        type_line("quit")
        wait_for("say something")
        type_line("")
        wait_for("n complete")
    os.close(child)
    os.close(parent)
    (line,) = (tmp_path / "episodes.jsonl").read_text().splitlines()
    episode = json.loads(line)
    assert episode["messages"][0]["talk"] == "Good morning." and episode["messages"][-1]["kind"] == "quit"


@pytest.mark.parametrize(
    ("buyer", "seller", "told"),
    [
        ("linaer", "neutral", "did you mean 'linear'"),
        ("run:", "neutral", "names no player"),
        ("linear", "", "--seller is missing"),
        ("linear", "best_response", "--seller=best_response"),
    ],
)
def test_players_that_cannot_meet_are_refused(buyer, seller, told):
    with pytest.raises(ValueError, match=told):
        match.prepare(buyer, seller, {})


@pytest.mark.parametrize("field", ["training.iterations", "model.layers", "buyer.policies", "sampling.temperature"])
def test_a_field_that_no_match_reads_is_refused(field):
    with pytest.raises(ValueError, match=f"--config.{field}: no match between these players depends on it"):
        match.prepare("linear", "floor", {field: ("linear",) if field == "buyer.policies" else 1})


def test_a_field_that_contradicts_the_players_is_refused():
    with pytest.raises(ValueError, match="--config.game.seller=floor contradicts the players, .* 'neutral'"):
        match.prepare("linear", "neutral", {"game.seller": "floor"})


# The command and its arguments, and what the line must say.
REFUSED = {
    "a server by another protocol": ("match --buyer=api:m@ftp://x/v1", "--buyer=api:m@ftp://x/v1: write api:MODEL@URL"),
    "a server's flag without one": ("match --buyer=linear --concurrency=2", "--concurrency is for a player api:MODEL"),
    "a folder in a bucket": ("match --buyer=linear --output=gs://b/match", "--output=gs://b/match is in a bucket"),
    "no products": ("match --buyer=linear --products=0", "--products=0: there are 128 held-out products"),
    "more products than there are": ("match --buyer=linear --products=129", "--products=129: .* from 1 to 128"),
    "a run without a name": ("play --workdir=", "--workdir is empty"),
    "a run that is sold to without a name": ("play --workdir= --side=seller", "--workdir is empty"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_one_line_alone(case, tmp_path):
    command, told = REFUSED[case]
    module, *arguments = command.split()
    if module == "match":
        arguments = ["--seller=neutral", f"--output={tmp_path}/match", *arguments]
    code, out, err = forked.run(f"experiments.{module}", arguments)
    assert code == 1 and not out and re.fullmatch(f"error: .*{told}.*\n", err), (out, err)
