"""The launcher against a stand-in for gcloud, in which two workers run what they are told."""

import json
import os
import re
import signal
import subprocess
import time

import pytest

from launch import lifecycle
from tests.launch.cloud import ROOT, SECRET, command, printed

V5P = ("--accelerator_type=v5p-16", "--spot")
CREATED = ["describe", "create", "describe"]
SET_UP = ["scp", "install"]
RUN = ["start", "follow", "result"]
# A stand-in for training: in the folder of its bucket it notes each start, and ends with the code of its turn.
TRAIN = """
import json, os, pathlib, sys
notes = pathlib.Path(sys.argv[1]) / os.environ["WORKER"]
turn = len(notes.read_text().splitlines()) if notes.exists() else 0
with notes.open("a") as file:
    file.write(json.dumps([sys.argv[3:], os.environ.get("TOKEN"), os.getcwd()]) + "\\n")
print(f"turn {turn}")
sys.exit(int(sys.argv[2].split(",")[turn]))
"""


@pytest.fixture
def bucket(tmp_path):
    """A folder that outlives the workers, with the program in it."""
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket" / "train.py").write_text(TRAIN)
    return tmp_path / "bucket"


def train(bucket, codes: str, *arguments: str) -> list[str]:
    """A training command that ends with these codes, one after the other."""
    return ["--", "python", str(bucket / "train.py"), str(bucket), codes, *arguments]


def starts(bucket, worker: int) -> list:
    return [json.loads(line) for line in (bucket / str(worker)).read_text().splitlines()]


def test_up(cloud, bucket):
    """What a dry run prints is what is run; the command line and the secret arrive, and the secret is nowhere else."""
    hostile = ["--workdir=gs://b/a  b", "it's", '"$HOME;\n `id`', "*", ""]
    cloud.script(["NOT_FOUND", "ACTIVE"], workers=2)
    arguments = [*V5P, "--env=TOKEN", *train(bucket, "0", *hostile)]
    dry = cloud.launch("up", "--dry_run", *arguments)
    assert dry.code == 0 and cloud.calls() == []
    up = cloud.launch("up", *arguments)
    assert up.code == 0, up.err
    assert printed(dry.out) == cloud.calls()
    assert cloud.verbs() == [*CREATED, *SET_UP, *RUN]
    assert "turn 0" in up.out
    for worker in (0, 1):
        assert starts(bucket, worker) == [[hostile, SECRET, str(cloud.worker(worker))]]
        assert (cloud.worker(worker) / ".launch/environment").stat().st_mode & 0o777 == 0o600
        assert not (cloud.worker(worker).parent / "negot_jax.tar.gz").exists()
    assert "python3 -m uv venv --quiet --python=3.11 --seed .venv" in (cloud.folder / "installed").read_text()
    assert "python -m pip install --quiet --editable .[tpu] --constraint" in (cloud.folder / "installed").read_text()
    assert not list((cloud.folder / ".cache/negot_jax/launch").iterdir())
    for said in (dry.out, dry.err, up.out, up.err, json.dumps(cloud.calls())):
        assert SECRET not in said and json.dumps(SECRET)[1:-1] not in said


WAITED = ["CREATING", "ACCEPTED", "WAITING_FOR_RESOURCES", "WAITING_FOR_RESOURCES", "PROVISIONING"]
TOLD = "".join(f"bargain is {state}\n" for state in (*WAITED[:3], "PROVISIONING"))  # Each once.


@pytest.mark.parametrize(
    "states, verbs, code, message",
    [
        (["NOT_FOUND", *WAITED, "ACTIVE"], [*CREATED, *["describe"] * 5], 0, TOLD),
        (["ACTIVE"], ["describe"], 0, ""),
        (["SUSPENDED", "NOT_FOUND", "ACTIVE"], ["describe", "delete", *CREATED], 0, ""),
        (["DELETING", "NOT_FOUND", "ACTIVE"], ["describe", *CREATED], 0, "bargain is DELETING\n"),
        (["NOT_FOUND", "UNAUTHENTICATED", "ACTIVE"], [*CREATED, "describe"], 0, "UNAUTHENTICATED: what gcloud says"),
        (["NOT_FOUND", "FAILED"], CREATED, 1, "error: bargain is FAILED. For the reason see gcloud compute"),
        (["NOT_FOUND", "SUSPENDED"], CREATED, 75, "preempted: bargain is SUSPENDED."),  # A spot slice.
        (["NOT_FOUND", "NOT_FOUND"], CREATED, 1, "error: bargain is ABSENT."),
        (["UNAUTHENTICATED"], ["describe"], 1, "error: gcloud could not look at the slice, for the reason above"),
    ],
)
def test_create(cloud, states, verbs, code, message):
    cloud.script(states)
    up = cloud.launch("up", *V5P, "--max_restarts=0", "--", "true")
    assert (up.code, cloud.verbs()) == (code, verbs + (SET_UP + RUN) * (code == 0))
    assert message in up.err


def test_a_preempted_run_starts_again(cloud, bucket):
    """On the machines that are still there, then on new ones, always by the same command; and not for ever."""
    cloud.script(["NOT_FOUND", "ACTIVE", "ACTIVE", "SUSPENDED", "NOT_FOUND", "ACTIVE"], workers=2)
    up = cloud.launch("up", *V5P, "--max_restarts=2", *train(bucket, "75,75,75,0", "--workdir=gs://b/run"))
    assert up.code == 75
    assert re.findall(r"(\d) restarts are left", up.err) == ["1", "0"]
    assert up.err.splitlines()[-1].startswith("preempted: the run on ")
    again = ["describe", *SET_UP, *RUN]
    assert cloud.verbs() == [*CREATED, *SET_UP, *RUN, *again, "describe", "delete", *CREATED, *SET_UP, *RUN]
    assert len({tuple(call) for call in cloud.calls() if "launch.worker start" in call[-1]}) == 1
    for worker in (0, 1):
        assert starts(bucket, worker) == 3 * [[["--workdir=gs://b/run"], None, str(cloud.worker(worker))]]


@pytest.mark.parametrize("step", ["scp", "worker start", "worker follow"])
def test_machines_that_vanish(cloud, bucket, step):
    """Whatever was being done, a command that fails on a suspended slice leads to a new one."""
    cloud.script(["NOT_FOUND", "ACTIVE", "SUSPENDING", "SUSPENDED", "NOT_FOUND", "ACTIVE"], failures=[(step, 1)])
    up = cloud.launch("up", *V5P, *train(bucket, "0,0"))
    assert up.code == 0, up.err
    verbs = cloud.verbs()
    failed = verbs.index("delete")
    assert verbs[failed - 2 : failed] == ["describe", "describe"]
    assert verbs[failed:] == ["delete", *CREATED, *SET_UP, *RUN]


@pytest.mark.parametrize("capacity", ["--flex_start=1", "--reservation=june", "--nospot"])
def test_a_slice_whose_time_is_over_is_not_requested_again(cloud, bucket, capacity):
    """Only spot slices are taken away. Others end suspended, and so does the run, whatever it says of itself."""
    cloud.script(["NOT_FOUND", "ACTIVE", "SUSPENDING", "SUSPENDED"])
    for verbs in ([*CREATED, *SET_UP, *RUN, "describe"], ["describe"]):  # And again by the same line.
        before = len(cloud.verbs())
        up = cloud.launch("up", "--accelerator_type=v6e-16", capacity, *train(bucket, "75"))
        assert up.code == 1 and re.search("^error: bargain is SUSPEND.*: its time is over.*`delete`", up.err, re.M)
        assert cloud.verbs()[before:] == verbs


def test_a_cut_line_is_taken_up_again(cloud, bucket):
    """The run goes on meanwhile: it is followed again, not started again."""
    cloud.script(
        ["NOT_FOUND", "ACTIVE", "UNAUTHENTICATED", "ACTIVE"], [("follow", 255), ("follow", 1), ("result", 255)]
    )
    assert cloud.launch("up", *V5P, *train(bucket, "0")).code == 0
    retried = ["follow", "describe", "follow", "describe", "follow", "result", "describe", "result"]
    assert cloud.verbs() == [*CREATED, *SET_UP, "start", *retried]
    assert len(starts(bucket, 0)) == 1


@pytest.mark.parametrize(
    "code, states, failures, verbs, message",
    [
        ("3", ["ACTIVE"], [], RUN, "the run failed, by exit codes {"),
        ("0", ["ACTIVE"], [("--nonblock", 2)], ["describe"], "exit code 2, for the reason above, of gcloud compute"),
        (
            "0",
            ["ACTIVE"],
            [("follow", 1)] * 3,
            ["start", *["follow", "describe"] * 3],
            "bargain is ready and cannot be",
        ),
        ("0", ["ACTIVE", "DELETING"], [("follow", 1)], ["start", "follow", "describe"], "bargain is DELETING."),
        ("0", ["ACTIVE", "ABSENT"], [("result", 1)], [*RUN, "describe"], "bargain is ABSENT."),
    ],
)
def test_what_ends_a_run(cloud, bucket, monkeypatch, code, states, failures, verbs, message):
    """A command that fails by itself, and a slice that is deleted by hand, are not tried again. No secret stays."""
    monkeypatch.setattr(lifecycle, "_PATIENCE", 3)
    cloud.script(["NOT_FOUND", *states], failures=failures)
    up = cloud.launch("up", *V5P, *train(bucket, f"{code},0"))
    assert up.code == 1 and f"error: {message}" in up.err
    assert cloud.verbs() == [*CREATED, *SET_UP, *verbs]
    assert not list((cloud.folder / ".cache/negot_jax/launch").iterdir())


def test_a_run_from_beginning_to_end(cloud, bucket):
    one = (*V5P, "--max_restarts=0", "--env=TOKEN", *train(bucket, "75,0"))
    assert cloud.launch("up", *one).code == 75
    assert " 75]" in cloud.launch("status").out
    assert cloud.launch("up", *one).code == 0
    assert starts(bucket, 0)[1][1] == SECRET
    assert " 0]" in cloud.launch("status").out
    assert "turn 1" in cloud.launch("logs", "--worker=0").out
    assert cloud.launch("delete").code == 0
    assert cloud.verbs()[-1] == "delete"


def test_the_same_line_follows_a_run_that_goes_on(cloud):
    """Neither Ctrl-C nor a second `up` touches the run, its code or its environment; another command is refused."""
    program = (
        "import os, time; open('begun', 'a').write('x'); end = time.time() + 120\n"
        "while not os.path.exists('end') and time.time() < end: time.sleep(.05)"
    )
    waiting = ["--", "python", "-c", program]
    first = followed(cloud, *waiting)
    os.killpg(first.pid, signal.SIGINT)  # As a terminal does.
    assert "interrupted: the slice and the run on it go on" in first.communicate(timeout=60)[1]
    assert first.returncode == 1
    other = cloud.launch("up", *V5P, "--env=TOKEN", "--", "python", "-c", "pass")
    assert other.code == 1
    assert "error: another command is running here: python -c 'import os" in other.err
    assert "A run is going on: code and environment stay as they are." in other.out
    assert (cloud.worker(0) / ".launch/environment").read_text() == ""
    assert not (cloud.worker(0).parent / "negot_jax.tar.gz").exists()  # With its secret.
    second = followed(cloud, *waiting)
    (cloud.worker(0) / "end").touch()
    second.communicate(timeout=60)
    assert second.returncode == 0
    assert (cloud.worker(0) / "begun").read_text() == "x"


def followed(cloud, *arguments: str) -> subprocess.Popen:
    """An `up` of its own process, once it shows the output of the run."""
    shown = cloud.folder / "shown"
    launcher = subprocess.Popen(
        command("up", *V5P, *arguments),
        env=cloud.environment,
        stdout=shown.open("w"),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell's background job, such as this test may be of, ignores it, and so would all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    end = time.monotonic() + 60
    while "$ python -c" not in shown.read_text():
        assert time.monotonic() < end
        time.sleep(0.05)
    return launcher


def test_preempted_is_what_training_says():
    """By its text: to import it takes longer than all other tests here."""
    assert lifecycle.PREEMPTED == os.EX_TEMPFAIL
    assert "\nPREEMPTED = os.EX_TEMPFAIL\n" in (ROOT / "experiments/cli.py").read_text()
