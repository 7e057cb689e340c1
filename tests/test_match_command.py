"""Matches from the command line: killed and resumed against a server, and played by a person in a terminal."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest

from negot_jax.run import match
from tests import tiny_run
from tests.evaluation.match import served
from tests.evaluation.match.stub import KEY, Server, completion, serving
from tests.language import vocabularies
from tests.models import published

SMALL = ["--config.game.turns=2", "--config.evaluation.episodes=2", "--config.evaluation.batch=8"]
MATCH = [sys.executable, "-m", "experiments.match", *SMALL, "--seller=neutral"]


def _buys(number, body):
    """An offer of a dollar for the product that the prompt names."""
    code = re.search(r"\(1x (\S+)\)", body["messages"][0]["content"])[1]
    return 200, {}, completion(f"Talk: Please.\nAction: [BUY] $1 (1x {code})")


@pytest.mark.slow
def test_a_killed_match_goes_on_without_asking_twice(tmp_path):
    server = Server(_buys, seconds=0.2)
    with serving(server) as url:
        command = [*MATCH, f"--buyer=api:m@{url}", "--products=4", f"--output={tmp_path}", "--concurrency=1"]
        environment = os.environ | {"OPENAI_API_KEY": KEY}
        process = subprocess.Popen(command, cwd=tiny_run.ROOT, env=environment, stderr=subprocess.DEVNULL)
        while len(server.bodies) < 5 and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        asked = len(server.bodies)
        assert 5 <= asked < 16
        done = subprocess.run(command, cwd=tiny_run.ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # 4 products x 2 episodes x 2 turns; only what was under way at the kill was asked for again.
    assert 16 <= len(server.bodies) <= 17 and len(list((tmp_path / "answers").iterdir())) == 16
    counts = json.loads((tmp_path / "servers.json").read_text())
    assert counts["buyer"]["kept answers"] in (asked - 1, asked) and counts["all"]["tokens"] == 160
    assert "n complete" in done.stdout and "deal" in (tmp_path / "table.md").read_text()
    assert KEY not in done.stdout + done.stderr + "".join(p.read_text() for p in tmp_path.rglob("*") if p.is_file())


def test_a_killed_match_against_a_real_server_goes_on(tmp_path):
    """`transformers serve` on a random checkpoint. 8 of its tokens are no message, so each is asked for twice."""
    model = tmp_path / "model"
    model.mkdir()
    published.with_tokenizer("llama-scaled-rope", vocabularies.qwen3, model)
    with served.serving(model, tmp_path) as (url, log):
        asked = lambda: log.read_text().count("POST /v1/chat/completions")
        played = [f"--buyer=api:{model}@{url}", "--products=4", "--concurrency=1"]
        settings = ["--config.evaluation.episodes=1", '--request={"max_tokens": 8}', f"--output={tmp_path / 'match'}"]
        command, environment = [*MATCH, *played, *settings], os.environ | {"OPENAI_API_KEY": "none"}
        killed = subprocess.Popen(command, cwd=tiny_run.ROOT, env=environment, stderr=subprocess.DEVNULL)
        while asked() < 2 and killed.poll() is None:
            time.sleep(0.01)
        killed.kill()
        killed.wait()
        assert asked() < 8
        done = subprocess.run(command, cwd=tiny_run.ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 8 <= asked() <= 9  # Only what was under way at the kill was asked for again.
    episodes = [json.loads(line) for line in (tmp_path / "match/episodes.jsonl").read_text().splitlines()]
    assert len(episodes) == 4 and all(own["messages"][0]["text"] for own in episodes)


def test_a_person_plays_in_a_terminal(tmp_path):
    command = [*MATCH, "--buyer=person", "--products=1", "--config.evaluation.episodes=1", f"--output={tmp_path}"]
    parent, child = pty.openpty()
    process = subprocess.Popen(command, cwd=tiny_run.ROOT, stdin=child, stdout=child, stderr=child)
    os.close(child)
    shown = ""

    def wait_for(what: str) -> None:
        nonlocal shown
        shown = ""
        while what not in shown:
            assert select.select([parent], [], [], 120)[0], shown
            shown += os.read(parent, 4096).decode(errors="replace")

    def type_line(text: str) -> None:
        os.write(parent, f"{text}\n".encode())

    try:
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
        type_line("Good morning.")
        wait_for("your move")
        assert "the seller says" in shown and "deal: accept $" in shown
        type_line("quit")
        wait_for("say something")
        type_line("")
        wait_for("n complete")
    finally:
        process.kill()
        process.wait()
        os.close(parent)
    (line,) = (tmp_path / "episodes.jsonl").read_text().splitlines()
    episode = json.loads(line)
    assert episode["messages"][0]["talk"] == "Good morning." and episode["messages"][-1]["kind"] == "quit"


@pytest.mark.parametrize(
    ("buyer", "seller", "told"),
    [
        ("linaer", "neutral", "did you mean 'linear'"),
        ("run:", "neutral", "names none"),
        ("linear", "", "--seller is missing"),
        ("linear", "best_response", "--seller=best_response"),
    ],
)
def test_players_that_cannot_meet_are_refused(buyer, seller, told):
    with pytest.raises(ValueError, match=told):
        match.prepare(buyer, seller, {})
