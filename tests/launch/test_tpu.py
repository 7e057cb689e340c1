"""The launcher against a stand-in for gcloud, in which two workers run what they are told."""

import contextlib
import io
import json
import os
import re
import shlex
import signal
import subprocess
import time

import pytest

from launch import lifecycle
from tests.launch.cloud import ROOT, SECRET, Cloud, command

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
pathlib.Path("runs/1").mkdir(parents=True, exist_ok=True)
pathlib.Path("runs/1/metrics.csv").write_text(f"{turn}")
sys.exit(int(sys.argv[2].split(",")[turn]))
"""


@pytest.fixture
def cloud(tmp_path, monkeypatch, capfd):
    return Cloud(tmp_path / "cloud", monkeypatch, capfd)


@pytest.fixture
def bucket(tmp_path):
    """A folder that outlives the workers, with the program in it."""
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket" / "train.py").write_text(TRAIN)
    return tmp_path / "bucket"


def train(bucket, codes: str, *arguments: str) -> list[str]:
    """A training command that ends with these codes, one after the other."""
    return ["--", "python", str(bucket / "train.py"), str(bucket), codes, *arguments]


def printed(output: str) -> list[list[str]]:
    """The gcloud commands of a dry run: one a line, or more where a line ends within quotes."""
    commands, text = [], ""
    for line in io.StringIO(output):
        text += line
        with contextlib.suppress(ValueError):  # No closing quotation.
            commands.append(shlex.split(text))
            text = ""
    return [command for command in commands if command[0] == "gcloud"]


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
        assert (cloud.worker(worker) / ".launch/environment.json").stat().st_mode & 0o777 == 0o600
    assert "python3 -m uv venv --quiet --python=3.11 --seed .venv" in (cloud.folder / "installed").read_text()
    assert "python -m pip install --quiet --editable .[tpu] --constraint" in (cloud.folder / "installed").read_text()
    assert not list((cloud.folder / ".cache/negot_jax").iterdir())
    for said in (dry.out, dry.err, up.out, up.err, json.dumps(cloud.calls())):
        assert SECRET not in said and json.dumps(SECRET)[1:-1] not in said


def test_it_waits_through_the_states(cloud):
    states = ["CREATING", "ACCEPTED", "WAITING_FOR_RESOURCES", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]
    cloud.script(["NOT_FOUND", *states])
    create = cloud.launch("create", *V5P)
    assert create.code == 0
    assert cloud.verbs() == ["describe", "create", *["describe"] * 6]
    told = [line for line in create.err.splitlines() if line.startswith("bargain is ")]
    assert told == [f"bargain is {state}" for state in (*states[:3], "PROVISIONING")]  # Each once.


@pytest.mark.parametrize(
    "states, verbs, code, message",
    [
        (["ACTIVE"], ["describe"], 0, ""),
        (["SUSPENDED", "NOT_FOUND", "ACTIVE"], ["describe", "delete", *CREATED], 0, ""),
        (["DELETING", "NOT_FOUND", "READY"], ["describe", *CREATED], 0, "bargain is DELETING\n"),
        (["NOT_FOUND", "UNAUTHENTICATED", "ACTIVE"], [*CREATED, "describe"], 0, "UNAUTHENTICATED: what gcloud says"),
        (
            ["NOT_FOUND", "FAILED"],
            CREATED,
            1,
            "error: bargain is FAILED, and will not become ready. For the reason see gcloud compute",
        ),
        (["NOT_FOUND", "SUSPENDED"], CREATED, 75, "preempted: bargain is SUSPENDED."),  # A spot slice.
        (["NOT_FOUND", "NOT_FOUND"], CREATED, 1, "error: bargain is ABSENT, and will not become ready"),
        (["STOPPED"], ["describe"], 1, "error: bargain is STOPPED, and will not become ready"),
        (["UNAUTHENTICATED"], ["describe"], 1, "error: gcloud could not look at the slice, for the reason above"),
    ],
)
def test_create(cloud, states, verbs, code, message):
    cloud.script(states)
    create = cloud.launch("create", *V5P)
    assert (create.code, cloud.verbs()) == (code, verbs)
    assert message in create.err


def test_a_preempted_run_starts_again(cloud, bucket):
    """On the machines that are still there, then on new ones, always by the same command; and not for ever."""
    cloud.script(["NOT_FOUND", "ACTIVE", "ACTIVE", "SUSPENDED", "NOT_FOUND", "ACTIVE"], workers=2)
    up = cloud.launch("up", *V5P, "--max_restarts=2", *train(bucket, "75,75,75,0", "--workdir=gs://b/run"))
    assert up.code == 75
    assert "Restart 2 of 2." in up.err
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


@pytest.mark.parametrize("state", ["SUSPENDING", "SUSPENDED"])
def test_a_slice_whose_time_is_over_is_not_requested_again(cloud, bucket, state):
    """Only spot slices are taken away. Others end suspended, flex-start ones for instance, and so does the run."""
    cloud.script(["NOT_FOUND", "ACTIVE", state], failures=[("follow", 1)])
    for verbs in ([*CREATED, *SET_UP, "start", "follow", "describe"], ["describe"]):  # And again by the same line.
        before = len(cloud.verbs())
        up = cloud.launch("up", "--accelerator_type=v5p-16", *train(bucket, "0"))
        assert up.code == 1 and re.search(f"^error: bargain is {state}: its time is over.*`delete`", up.err, re.M)
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


def test_a_slice_that_cannot_be_reached(cloud, bucket, monkeypatch):
    monkeypatch.setattr(lifecycle, "_PATIENCE", 3)
    cloud.script(["NOT_FOUND", "ACTIVE"], failures=[("follow", 255)] * 3)
    up = cloud.launch("up", *V5P, *train(bucket, "0"))
    assert up.code == 1
    assert "error: bargain is ready and cannot be reached. Its run goes on" in up.err


def test_a_failed_run_is_not_started_again(cloud, bucket):
    up = cloud.launch("up", *V5P, *train(bucket, "3,0"))
    assert up.code == 1
    assert up.err.splitlines()[-1].startswith("error: the run failed, by exit codes {")
    assert cloud.verbs() == [*CREATED, *SET_UP, *RUN]


def test_a_failed_installation_is_not_tried_again(cloud, bucket):
    cloud.script(["NOT_FOUND", "ACTIVE"], failures=[("--nonblock", 2)])
    up = cloud.launch("up", *V5P, *train(bucket, "0"))
    assert up.code == 1
    assert "error: exit code 2, for the reason above, of gcloud compute tpus tpu-vm ssh" in up.err
    assert cloud.verbs() == [*CREATED, *SET_UP, "describe"]
    assert not list((cloud.folder / ".cache/negot_jax").iterdir())  # The secrets do not stay.


def test_a_slice_deleted_by_hand_stays_deleted(cloud, bucket):
    cloud.script(["NOT_FOUND", "ACTIVE", "DELETING"], failures=[("follow", 1)])
    up = cloud.launch("up", *V5P, *train(bucket, "0"))
    assert up.code == 1
    assert up.err.splitlines()[-1] == "error: bargain was deleted"
    assert cloud.verbs().count("create") == 1


def test_step_by_step(cloud, bucket, tmp_path):
    command = train(bucket, "75,0", "--workdir=runs/1")
    assert cloud.launch("create", *V5P).code == 0
    assert cloud.launch("setup", "--env=TOKEN").code == 0
    assert "has run nothing" in cloud.launch("status").out
    assert cloud.launch("run", *command).code == 75
    assert cloud.launch("run", *command).code == 0
    assert starts(bucket, 0)[1][1] == SECRET
    assert "ended with exit code 0" in cloud.launch("status").out
    assert "turn 1" in cloud.launch("logs", "--worker=0").out
    assert cloud.launch("fetch", f"--output={tmp_path}/got/here", *command).code == 0
    assert (tmp_path / "got/here/1/metrics.csv").read_text() == "1"
    assert cloud.launch("delete").code == 0
    assert cloud.verbs()[-1] == "delete"


def test_the_same_line_follows_a_run_that_goes_on(cloud):
    """Neither Ctrl-C nor a second `up` touches the run, its code or its environment; another command is refused."""
    program = (
        "import os, time; open('begun', 'a').write('x'); end = time.time() + 120\n"
        "while not os.path.exists('end') and time.time() < end: time.sleep(.05)"
    )
    waiting = ["--", "python", "-c", program]
    first = followed(cloud, 1, *waiting)
    os.killpg(first.pid, signal.SIGINT)  # As a terminal does.
    assert "interrupted: the slice and the run on it go on" in first.communicate(timeout=60)[1]
    assert first.returncode == 1
    other = cloud.launch("up", *V5P, "--env=TOKEN", "--", "python", "-c", "pass")
    assert other.code == 1
    assert "error: another command is running here: python -c 'import os" in other.err
    assert "A run is going on: code and environment stay as they are." in other.out
    assert json.loads((cloud.worker(0) / ".launch/environment.json").read_text()) == {}
    second = followed(cloud, 2, *waiting)
    (cloud.worker(0) / "end").touch()
    second.communicate(timeout=60)
    assert second.returncode == 0
    assert (cloud.worker(0) / "begun").read_text() == "x"


def followed(cloud, times: int, *arguments: str) -> subprocess.Popen:
    """An `up` of its own process, once it follows the run, which so many have done then."""
    launcher = subprocess.Popen(
        command("up", *V5P, *arguments),
        env=cloud.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell's background job, such as this test may be of, ignores it, and so would all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    end = time.monotonic() + 60
    while cloud.verbs().count("follow") < times:
        assert time.monotonic() < end
        time.sleep(0.05)
    return launcher


COMMAND = ["--", "python", "-m", "experiments.train", "--distributed", "--workdir=runs/1"]
ONE_WORKER = "--accelerator_type=v5p-8"
BAD = {
    "no subcommand": ([""], "give one of create, setup, .*, not none; COMMAND after --"),
    "unknown subcommand": (["destroy"], "give one of create, setup, .*, not destroy"),
    "two subcommands": (["create", "run"], "give one of create, .*, not create run"),
    "no flags": (["create", "--name=", "--zone="], "create needs --name, --zone, --accelerator_type"),
    "no command": (["run"], "run needs the training command, after --"),
    "no output": (["fetch", *COMMAND], "fetch needs --output"),
    "no workdir": (["fetch", "--output=x", "--", "python"], "fetch needs a training command with --workdir"),
    "unknown flag": (["create", "--acelerator_type=v4-8"], "Unknown command line flag 'acelerator_type'"),
    "no number": (["up", "--max_restarts=many"], "flag --max_restarts=many"),
    "name": (["delete", "--name=My_TPU"], "--name=My_TPU: use lower-case letters"),
    "type": (["create", "--accelerator_type=v5e-8"], "--accelerator_type=v5e-8 is none of v2-N, .*, v5litepod-N, "),
    "spot and reserved": (["create", *V5P, "--reserved"], "--spot and --reserved exclude each other"),
    "variable not set": (["setup", "--env=NOT_SET"], "--env=NOT_SET is not set here: export it"),
    "variable with its value": (["setup", f"--env=TOKEN={SECRET}"], "--env=TOKEN is not set .* its name alone"),
    "workdir of the slice": (["up", ONE_WORKER, *COMMAND], "--workdir=runs/1 is lost with .* or --max_restarts=0"),
    "workdir of each worker": (
        ["up", *V5P, "--max_restarts=0", *COMMAND],
        "--workdir=runs/1 is another folder on each worker of v5p-16, .*gs://BUCKET/RUN",
    ),
    "the same, without restarts": (["run", *V5P, *COMMAND], "--workdir=runs/1 is another folder on each worker"),
    "each worker for itself": (["run", *COMMAND[:4], "--workdir=gs://b/r"], ".* add --distributed to it"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(cloud, case):
    """One line that names what is wrong and the way out, before anything is run."""
    arguments, message = BAD[case]
    ended = cloud.launch(*arguments)
    assert ended.code == 1
    assert re.fullmatch(f"error: {message}[^\n]*\n", ended.err), ended.err
    assert SECRET not in ended.err
    assert cloud.calls() == []


def test_a_training_command_for_each_size(cloud):
    """As it stands, on every worker: to a bucket, or on one worker without restarts to a folder of its own."""
    bucket = ["--", "python", "-m", "experiments.train", "--distributed", "--workdir=gs://b/run"]
    for arguments in ([*V5P, *bucket], [ONE_WORKER, *bucket], [ONE_WORKER, "--max_restarts=0", *COMMAND]):
        up = cloud.launch("up", "--dry_run", *arguments)
        assert up.code == 0, up.err
        (start,) = [call for call in printed(up.out) if "launch.worker start" in call[-1]]
        given = arguments[arguments.index("--") + 1 :]
        assert "--worker=all" in start and start[-1].endswith(f"launch.worker start {shlex.join(given)}")


def test_no_gcloud(cloud, monkeypatch):
    monkeypatch.setenv("PATH", str(cloud.folder))
    ended = cloud.launch("delete")
    assert ended.code == 1
    assert ended.err.startswith("error: gcloud is not on PATH: install the Google Cloud CLI, then `gcloud auth login`")
    dry = "gcloud compute tpus queued-resources delete bargain --project=p --zone=z --quiet --force\n"
    assert cloud.launch("delete", "--dry_run") == (0, dry, "")


def test_a_newer_type_with_its_runtime_version(cloud):
    newer = ("--accelerator_type=v9-8", "--runtime_version=v2-alpha-tpuv9", "--noqueued")
    assert cloud.launch("create", *newer).code == 0
    assert cloud.calls()[1][-2:] == ["--accelerator-type=v9-8", "--version=v2-alpha-tpuv9"]


def test_preempted_is_what_training_says():
    """By its text: to import it takes longer than all other tests here."""
    assert lifecycle.PREEMPTED == os.EX_TEMPFAIL
    assert "\nPREEMPTED = os.EX_TEMPFAIL\n" in (ROOT / "experiments/cli.py").read_text()
