"""What the launcher checks before anything is created, and the manifest for GKE."""

import re
import shlex

import pytest
import yaml

from launch import tpu
from tests.launch.cloud import SECRET, printed

V5P = ("--accelerator_type=v5p-16", "--spot")
ONE_WORKER = "--accelerator_type=v5p-8"
GKE = ("gke", "--image=europe-docker.pkg.dev/p/r/negot_jax:1", "--topology=4x4x4")
TRAIN = ["--", "python", "-m", "experiments.train", "--distributed"]
LOCAL, BUCKET = [*TRAIN, "--workdir=runs/1"], [*TRAIN, "--workdir=gs://b/run"]
# Arguments, and what the line must name: the flag, its value and the way out.
BAD = {
    "no subcommand": ([""], "give one of up, logs, .*, not none; COMMAND after --"),
    "unknown subcommand": (["destroy"], "give one of up, logs, .*, not destroy"),
    "two subcommands": (["logs", "status"], "give one of up, .*, not logs status"),
    "no flags": (["up", "--name=", "--zone="], "up needs --name, --zone, --accelerator_type"),
    "no image": (["gke", "--topology=4x4x4"], "gke needs --image"),
    "no command": (["up", *V5P], "give the training command, after --"),
    "unknown flag": (["up", "--acelerator_type=v4-8"], "Unknown command line flag 'acelerator_type'"),
    "no number": (["up", "--max_restarts=many"], "flag --max_restarts=many"),
    "name": (["delete", "--name=My_TPU"], "--name=My_TPU: .*lower-case"),
    "type": (["up", "--accelerator_type=v5e-8"], "--accelerator_type=v5e-8 .* v5litepod-N, .*--runtime_version"),
    "no size": (["up", "--accelerator_type=v9", "--runtime_version=x"], "--accelerator_type=v9 .*v5p-128"),
    "TPU7x": (["up", "--accelerator_type=tpu7x-128", *BUCKET], "--accelerator_type=tpu7x-128 .* GKE .*docs/pods.md"),
    "more than a week": (["up", "--flex_start=169"], "flag --flex_start=169: .*168"),
    "no hour": (["up", "--flex_start=0"], "flag --flex_start=0: .*168"),
    "two capacities": (["up", *V5P, "--flex_start=1"], ".*spot=True, .*flex_start=1: At most one"),
    "variable not set": (["up", *V5P, "--env=NOT_SET", *BUCKET], "--env=NOT_SET is not set here: export it"),
    "variable with its value": (["up", *V5P, f"--env=TOKEN={SECRET}"], "--env=TOKEN comes with its value"),
    "variable of a pod, with its value": ([*GKE, f"--env=TOKEN={SECRET}", *BUCKET], "--env=TOKEN .* its name alone"),
    "topology in a plane": ([*GKE, "--topology=4x4", *BUCKET], "--topology=4x4: .*such as 4x4x4"),
    "topology of half a host": ([*GKE, "--topology=1x1x2", *BUCKET], "--topology=1x1x2: .*such as 4x4x4"),
    "workdir of the slice": (["up", ONE_WORKER, *LOCAL], "--workdir=runs/1 .*gs://BUCKET/RUN.* --max_restarts=0"),
    "workdir of a pod": ([*GKE, "--max_restarts=0", *LOCAL], "--workdir=runs/1 .*gs://BUCKET/RUN"),
    "workdir of each worker": (["up", *V5P, "--max_restarts=0", *LOCAL], "--workdir=runs/1 .*gs://BUCKET/RUN"),
    "workdir in two words": (["up", *V5P, *BUCKET, "--workdir", "runs/1"], "--workdir=runs/1 .*gs://BUCKET/RUN"),
    "module misspelt": (
        ["up", *V5P, "--", "python", "-m", "experiments.trian"],
        "there is no module experiments.trian: ",
    ),
    "package misspelt": (
        ["up", *V5P, "--", "python", "-u", "-m", "experiment.train"],
        "there is no module experiment.train: ",
    ),
    "each worker for itself": (["up", *V5P, *TRAIN[:-1], "--workdir=gs://b/r"], ".* add --distributed to it"),
    "not distributed": (["up", *V5P, *TRAIN[:-1], "--distributed=false"], ".* add --distributed to it"),
    "capacity in a cluster": ([*GKE, "--spot", *BUCKET], "--spot is not for gke: the cluster's node pool decides it"),
    "flags in a file": (["up", *V5P, *BUCKET, "--flagfile=my.flags"], "--flagfile .*: write out what it holds"),
}


@pytest.fixture
def training(monkeypatch):
    """In place of the training command's own check, which takes seconds: what it was asked."""
    asked = []
    monkeypatch.setattr(tpu, "inputs", lambda command, devices: asked.append((command, devices)) or {})
    return asked


@pytest.mark.parametrize("case", BAD)
def test_bad_input(cloud, case):
    """One line that names what is wrong and the way out, before anything is run."""
    arguments, message = BAD[case]
    ended = cloud.launch(*arguments)
    assert ended.code == 1
    assert re.fullmatch(f"error: {message}[^\n]*\n", ended.err), ended.err
    assert SECRET not in ended.err
    assert cloud.calls() == []


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--config.lerner.group=4"], "unknown config field lerner.group: did you mean learner.group"),
        (["--config.mesh.fsdp=3"], "mesh.fsdp=3, .* cannot be laid over 8 devices"),
    ],
)
def test_a_command_that_training_refuses(cloud, arguments, message):
    """Its flags, its configuration and its mesh on a v5p-16, which has 8 devices; by training itself."""
    config = "--config=experiments/configs/tiny.py"
    ended = cloud.launch("up", *V5P, *BUCKET, config, *arguments)
    assert ended.code == 1 and re.fullmatch(f"error: .*{message}[^\n]*\n", ended.err), ended.err
    assert cloud.calls() == []


def test_what_a_command_reads_must_reach_the_workers(cloud, tmp_path):
    config, own = "experiments/configs/quickstart.py", "config.model.checkpoint"
    assert tpu.inputs([*BUCKET[1:], f"--config={config}:ppo"], devices=4) == {"config": config}
    command = [*BUCKET[1:], "--config", config, f"--{own}=checkpoints/m", "--config.model.preset=qwen3-4b"]
    assert tpu.inputs(command, devices=4) == {"config": config, own: "checkpoints/m"}
    told = tmp_path / "told.py"
    told.write_text("from experiments.configs.quickstart import get_config\nprint('a = b\\nc')")
    assert tpu.inputs([*BUCKET[1:], f"--config={told}"], devices=4) == {"config": str(told)}
    ended = cloud.launch("up", *V5P, BUCKET[0], *command)
    assert ended.code == 1 and f"--{own}=checkpoints/m would not be on the workers" in ended.err
    assert cloud.calls() == []


@pytest.mark.parametrize("path", ["my.csv", "/data/my.csv", "../experiments/my.csv", "gs://bucket/my.csv"])
def test_products_are_packed(path):
    tpu._require_packed({"config": "experiments/my.py", "config.model.checkpoint": "gs://bucket/m"})
    tpu._require_packed({"config.catalog.data_dir": "./experiments/my.csv"})
    with pytest.raises(tpu.LaunchError, match=f"data_dir={path} would not be on the workers.* experiments/FILE"):
        tpu._require_packed({"config.catalog.data_dir": path})


@pytest.mark.parametrize(
    "arguments, devices",
    [
        ([*V5P, *BUCKET], 8),
        ([ONE_WORKER, *BUCKET], 4),
        ([ONE_WORKER, "--max_restarts=0", *LOCAL], 4),
        (["--accelerator_type=v5litepod-16", *BUCKET], 16),
        (["--accelerator_type=v9-16", "--runtime_version=v2-alpha-tpuv9", *BUCKET], 0),  # Not known here.
    ],
)
def test_a_training_command_for_each_size(cloud, training, arguments, devices):
    """As it stands, on every worker: to a bucket, or on one worker without restarts to a folder of its own."""
    up = cloud.launch("up", "--dry_run", *arguments)
    assert up.code == 0, up.err
    (start,) = [call for call in printed(up.out) if "launch.worker start" in call[-1]]
    command = arguments[arguments.index("--") + 1 :]
    assert training == [(command, devices)]
    assert "--worker=all" in start and start[-1].endswith(f"launch.worker start {shlex.join(command)}")
    (create,) = [call for call in printed(up.out) if "create" in call]
    version = {16: "v2-alpha-tpuv5-lite", 0: "v2-alpha-tpuv9"}.get(devices, "v2-alpha-tpuv5")
    assert f"--runtime-version={version}" in create


def test_no_gcloud(cloud, monkeypatch):
    monkeypatch.setenv("PATH", str(cloud.folder))
    ended = cloud.launch("delete")
    assert ended.code == 1
    assert ended.err.startswith("error: gcloud is not on PATH: install the Google Cloud CLI, then `gcloud auth login`")
    dry = "gcloud compute tpus queued-resources delete bargain --project=p --zone=z --quiet --force\n"
    assert cloud.launch("delete", "--dry_run") == (0, dry, "")


@pytest.mark.parametrize("topology, hosts", [("4x4x4", 16), ("2x2x1", 1)])
def test_a_job_set(cloud, training, topology, hosts):
    """Kubernetes reads the command as it was typed. No value of a variable is in the manifest."""
    hostile = ["it's", '"$HOME;\n `id`', "*", "", "{{ name }}", "# no", "yes", "1e3", "é", "\U0001f642"]
    given = ["--env=TOKEN", "--env=OTHER", "--service_account=trainer", "--max_restarts=3", *BUCKET, *hostile]
    ended = cloud.launch(*GKE, f"--topology={topology}", *given)
    assert (ended.code, ended.err, cloud.calls()) == (0, "", [])
    assert SECRET not in ended.out
    job_set = yaml.safe_load(ended.out)
    assert (job_set["apiVersion"], job_set["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert job_set["metadata"]["name"] == "bargain"
    assert job_set["spec"]["failurePolicy"] == {"maxRestarts": 3}
    (replicated,) = job_set["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    assert replicated["replicas"] == 1 and job["backoffLimit"] == 0
    assert (job["completions"], job["parallelism"], job["completionMode"]) == (hosts, hosts, "Indexed")
    pod = job["template"]["spec"]
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu7x",
        "cloud.google.com/gke-tpu-topology": topology,
    }
    assert (pod["serviceAccountName"], pod["restartPolicy"]) == ("trainer", "Never")
    (container,) = pod["containers"]
    assert container["image"] == GKE[1].removeprefix("--image=")
    assert container["command"] == [*BUCKET[1:], *hostile]
    assert container["resources"] == {"limits": {"google.com/tpu": 4}}
    secret = lambda name: {"secretKeyRef": {"name": "bargain", "key": name}}
    assert container["env"][1:] == [{"name": name, "valueFrom": secret(name)} for name in ("TOKEN", "OTHER")]
    assert training == [([*BUCKET[1:], *hostile], 8 * hosts)]  # A chip is two devices.


def test_a_job_set_without_options(cloud, training):
    pod = yaml.safe_load(cloud.launch(*GKE, *BUCKET).out)["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
    assert pod["spec"].keys() & {"serviceAccountName"} == set()
    assert [variable["name"] for variable in pod["spec"]["containers"][0]["env"]] == ["PYTHONUNBUFFERED"]
