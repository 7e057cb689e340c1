"""Signals: however many come, and wherever they find the main thread, the process leaves once."""

import hashlib
import signal
import threading
import time

import pytest

from negot_jax.training import preemption
from negot_jax.training.preemption import Preempted


@pytest.fixture
def left(monkeypatch) -> list[tuple[str, int]]:
    """By which threads, and for which signals, the process was left."""
    monkeypatch.setattr(preemption, "_GRACE", 0.3)
    return []


def obeyed(left):
    return preemption.obeyed(lambda error: left.append((threading.current_thread().name, error.signum)))


def burst():
    for _ in range(20):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)


def test_a_burst_raises_once_even_while_it_unwinds(left):
    with obeyed(left):
        try:
            burst()
        finally:
            burst()
    assert left == [("MainThread", signal.SIGTERM)]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_noted_burst_waits_for_what_must_be_saved(left):
    saved = []
    with obeyed(left), preemption.noted() as came:
        assert not came()
        burst()
        time.sleep(0.8)  # Longer than the grace.
        assert came()
        saved.append(1)
    assert saved and left == [("MainThread", signal.SIGTERM)]


def test_a_second_ctrl_c_does_not_wait(left):
    with obeyed(left), preemption.noted():
        signal.raise_signal(signal.SIGINT)
        time.sleep(preemption._ECHO + 0.2)
        assert not left
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.3)
        assert left and left[0][0] != "MainThread"


def in_c():
    """No handler runs meanwhile, as in a compilation; other threads do."""
    hashlib.pbkdf2_hmac("sha256", b"", b"", 4_000_000)


@pytest.mark.parametrize("within_noted", [False, True])
def test_a_main_thread_that_cannot_raise_is_left_behind(left, within_noted):
    timer = threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGTERM))
    timer.start()
    with obeyed(left):
        if within_noted:
            with preemption.noted(), preemption.prompt():
                in_c()
        else:
            in_c()
    assert left[0][0] != "MainThread" and left[-1][0] == "MainThread"


@pytest.mark.parametrize("signum", preemption.SIGNALS)
def test_where_nothing_is_to_be_saved_it_is_obeyed_at_once(left, signum):
    with obeyed(left), preemption.noted():
        signal.raise_signal(signum)
        with preemption.prompt():
            pytest.fail("not obeyed")
    assert left == [("MainThread", signum)]


def test_others_that_were_asked_raise_here_as_well():
    with pytest.raises(Preempted) as raised, preemption.noted(lambda came: not came):
        pass
    assert raised.value.together
