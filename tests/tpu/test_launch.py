"""The launch scripts against stand-ins for gcloud, kubectl, xpk and SLURM: what they call, and what they say."""

import itertools
import os
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
import yaml
from fake_programs import TPU, Programs

PLACE = ("--name=wmt", "--zone=us-west4-a")
POD = (*PLACE, "--accelerator-type=v5litepod-16")
RUN = ("--config=wmt14_en_de_base", "--workdir=gs://bucket/a b", '--config.data.train=lines:it\'s "quoted" & $HOME')
QUEUED = ["gcloud", "compute", "tpus", "queued-resources"]
NOT_FOUND = (1, "ERROR: (gcloud.compute.tpus.queued-resources.describe) NOT_FOUND: Resource was not found")
CLUSTER = ("--name=wmt", "--image=host/image:1", "--accelerator=tpu-v5-lite-podslice", "--topology=4x4")
WORKDIR, SHARED = "--workdir=gs://bucket/run", "--workdir=/mnt/runs/run"

COMPLETE = {
    "create.sh": (*POD, "--spot", "--", "--network=my net"),
    "install.sh": (*PLACE, "--setup=echo 'a b'"),
    "run.sh": (*PLACE, "--project=mine", "--", *RUN),
    "logs.sh": (*PLACE, "--all", "--lines=7"),
    "stop.sh": (*PLACE, "--timeout=9"),
    "delete.sh": (*PLACE, "--yes"),
    "resume.sh": (*POD, "--spot", "--setup=echo 'a b'", "--poll=0", "--", *RUN),
    "gke/apply.sh": (*CLUSTER, "--slices=2", "--", *RUN),
    "gke/xpk.sh": (
        *("--name=wmt", "--cluster=c", "--tpu-type=v5litepod-16", "--image=host/image:1"),
        *("--", *RUN),
    ),
    "slurm/submit.sh": ("--nodes=2", "--gpus-per-node=4", "--partition=gpu", "--", *RUN),
}
SCRIPTS = sorted(path for path in TPU.rglob("*") if path.suffix in (".sh", ".sbatch"))


@pytest.fixture
def programs(tmp_path) -> Programs:
    return Programs.install(tmp_path)


def once(calls: list) -> list:
    """Repeated looks at the same thing count as one."""
    return [call for call, _ in itertools.groupby(calls)]


# --- every script ---


def test_shellcheck_has_nothing_to_say():
    shellcheck = Path(sys.executable).with_name("shellcheck")
    checked = subprocess.run(
        [shellcheck, "--external-sources", *(path.relative_to(TPU.parent) for path in SCRIPTS)],
        cwd=TPU.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_every_script_is_tried_here():
    own = {
        "common.sh",
        "xla_flags.sh",
        "worker.sh",
        "gke/entrypoint.sh",
        "slurm/train.sbatch",
    }  # have tests of their own
    assert {str(path.relative_to(TPU)) for path in SCRIPTS} == set(COMPLETE) | own


@pytest.mark.parametrize("script", COMPLETE)
def test_help_explains_every_option(programs, script):
    shown = programs.run(script, "--help")
    assert shown.returncode == 0
    assert "Example:" in shown.stdout
    assert f"tpu/{script}" in shown.stdout
    text = (TPU / script).read_text()
    declared = " ".join(
        line.replace("switches=", "") for line in text.splitlines() if line.startswith(("options=", "switches="))
    )
    for option in shlex.split(declared.replace("options=", "")):
        for name in option.split():
            assert f"--{name}" in shown.stdout, name
    assert programs.calls() == []
    assert os.access(TPU / script, os.X_OK)


@pytest.mark.parametrize("script", COMPLETE)
def test_dry_run_calls_nothing_and_prints_what_would_be_called(programs, script):
    programs.answer({("describe",): [NOT_FOUND, "ACTIVE"], ("worker.sh status",): ["finished"]})
    if script == "resume.sh":  # a round in which the machines are gone
        programs.answer(
            {("describe",): ["SUSPENDED", NOT_FOUND, "ACTIVE"], ("worker.sh status",): ["absent", "finished"]}
        )
    real = programs.run(script, *COMPLETE[script])
    assert real.returncode == 0, real.stderr
    expected = once(programs.calls_and_input())
    assert expected

    end = COMPLETE[script].index("--") if "--" in COMPLETE[script] else None
    arguments = list(COMPLETE[script])
    arguments.insert(len(arguments) if end is None else end, "--dry-run")
    dry = programs.run(script, *arguments)
    assert dry.returncode == 0, dry.stderr
    assert programs.calls() == []

    replayed = programs.bash("-c", dry.stdout)
    assert replayed.returncode in (0, 1), replayed.stderr  # 1: nothing was there to be described
    found = once(programs.calls_and_input())
    if (
        script == "resume.sh"
    ):  # in the dry run each is shown once; stopping whatever is left comes first in the real one
        found, expected = [
            {" ".join(call) for call, _ in calls if "worker.sh stop" not in " ".join(call)}
            for calls in (found, expected)
        ]
    assert found == expected


@pytest.mark.parametrize("script", COMPLETE)
def test_each_missing_argument_is_named(programs, script):
    given = COMPLETE[script]
    options = given[: given.index("--")] if "--" in given else given
    needed = {
        "--name", "--zone", "--accelerator-type", "--accelerator", "--topology", "--image", "--cluster", "--tpu-type",
        "--nodes", "--gpus-per-node",
    }  # fmt: skip
    for option in options:
        name = option.split("=")[0]
        if name in needed:
            failed = programs.run(script, *(other for other in given if other != option))
            assert failed.returncode == 2
            assert f"{name} is missing, for example {name}=" in failed.stderr
            assert "--help" in failed.stderr
    if "--config=wmt14_en_de_base" in given:
        failed = programs.run(script, *options)
        assert failed.returncode == 2
        assert "--workdir=" in failed.stderr
    assert programs.calls() == []


@pytest.mark.parametrize("script", ["run.sh", "resume.sh", "gke/apply.sh", "gke/xpk.sh"])
def test_a_work_directory_that_not_all_machines_see_is_refused(programs, script):
    given = COMPLETE[script][: COMPLETE[script].index("--") + 1]

    def complaint(*workdir: str) -> str:
        failed = programs.run(script, *given, "--config=x", *workdir, "--config.data.train=lines:/a b")
        assert failed.returncode == 2
        return failed.stderr

    for url in ("--workdir=s3://bucket/run",), ("--workdir", "s3://bucket/run"), ("--workdir=gs://bucket",):
        refused = complaint(*url)
        assert f"--workdir={url[-1].removeprefix('--workdir=')}: several machines cannot keep a run there" in refused
        assert "--workdir=gs://BUCKET/RUN" in refused and "--workdir=/mnt/runs/RUN" in refused
    assert "--workdir=runs/x is not an absolute path" in complaint("--workdir=runs/x")
    if script.startswith("gke/"):
        for own in "--workdir=/root/x", SHARED:
            assert "on a container's own disk" in complaint(own)
            assert "--workdir=/mnt/runs/RUN with --" in complaint(own)
    assert programs.calls() == []


def test_a_share_is_as_good_as_a_bucket(programs):
    machines = ((script, COMPLETE[script]) for script in ("run.sh", "resume.sh"))
    for script, given in (*machines, ("gke/apply.sh", (*CLUSTER, "--nfs=10.0.0.2:/runs", "--"))):
        shown = programs.run(script, "--dry-run", *given[: given.index("--") + 1], SHARED)
        assert shown.returncode == 0, shown.stderr
        assert SHARED in shown.stdout
    options = COMPLETE["gke/xpk.sh"][: COMPLETE["gke/xpk.sh"].index("--")]
    shown = programs.run("gke/xpk.sh", "--dry-run", *options, "--storage=runs", "--", SHARED)
    assert "--storage=runs" in shown.stdout
    assert programs.calls() == []


def test_mistakes_in_options_are_named(programs):
    def complaint(*arguments: str) -> str:
        failed = programs.run("create.sh", *arguments)
        assert failed.returncode == 2
        return failed.stderr

    assert "no option --accelerator." in complaint(*PLACE, "--accelerator=v5litepod-16")
    assert "--accelerator-type" in complaint(*PLACE, "--accelerator=v5litepod-16")
    assert "'wmt' is not an option" in complaint("wmt")
    assert "--slices=two is not a whole number" in complaint(*POD, "--slices=two")
    assert "--name needs a value" in complaint("--name")
    assert "--runtime-version=" in complaint(*PLACE, "--accelerator-type=v9-8", "--dry-run")
    assert programs.calls() == []


def test_a_value_may_follow_its_option(programs):
    shown = programs.run("delete.sh", "--name", "my run", "--zone", "z", "--yes", "--dry-run")
    assert shlex.split(shown.stdout) == [*QUEUED, "delete", "my run", "--force", "--quiet", "--zone=z"]


def shown_commands(text: str) -> list[str]:
    """The calls of our scripts in a text, their continued lines joined."""
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.startswith("tpu/") and line.split()[0].endswith(".sh") and " " in line]


def try_out(programs: Programs, command: str) -> None:
    script, *arguments = shlex.split(command)
    arguments.insert(arguments.index("--") if "--" in arguments else len(arguments), "--dry-run")
    shown = programs.run(script.removeprefix("tpu/"), *arguments)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout


@pytest.mark.parametrize("script", COMPLETE)
def test_the_example_works(programs, script):
    examples = shown_commands(programs.run(script, "--help").stdout.split("Example:")[1])
    assert examples
    for command in examples:
        try_out(programs, command)


def test_the_commands_of_the_readme_work(programs):
    blocks = (TPU / "README.md").read_text().split("```sh\n")[1:]
    commands = [command for block in blocks for command in shown_commands(block.split("```")[0])]
    assert {command.split()[0] for command in commands} == {f"tpu/{script}" for script in COMPLETE}
    for command in commands:
        try_out(programs, command)


# --- create ---


def test_create_asks_and_waits(programs):
    programs.answer({("describe",): [NOT_FOUND, "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]})
    made = programs.run("create.sh", *POD, "--spot", "--project=mine", "--poll=0", "--", "--network=my net")
    assert made.returncode == 0, made.stderr
    place = ["--zone=us-west4-a", "--project=mine"]
    look = [*QUEUED, "describe", "wmt", "--format=value(state.state)", *place]
    request = [*QUEUED, "create", "wmt", "--accelerator-type=v5litepod-16", "--runtime-version=v2-alpha-tpuv5-lite"]
    request += ["--node-id=wmt", "--spot", "--network=my net", *place]
    assert programs.calls() == [look, request, look, look, look]
    assert "wmt: PROVISIONING" in made.stderr


def test_create_several_slices(programs):
    shown = programs.run("create.sh", *POD, "--slices=2", "--runtime-version=other", "--dry-run").stdout
    request = shlex.split(shown.splitlines()[1])
    assert {"--node-count=2", "--node-prefix=wmt", "--runtime-version=other"} <= set(request)
    assert not [word for word in request if word.startswith("--node-id")]


def test_create_goes_on_waiting_for_what_was_asked_for(programs):
    programs.answer({("describe",): ["WAITING_FOR_RESOURCES", "ACTIVE"]})
    assert programs.run("create.sh", *POD, "--poll=0").returncode == 0
    assert [call[4] for call in programs.calls()] == ["describe", "describe"]


def test_create_gives_up_with_a_way_out(programs):
    programs.answer({("describe",): [NOT_FOUND, "WAITING_FOR_RESOURCES"]})
    failed = programs.run("create.sh", *POD, "--poll=0", "--timeout=0")
    assert failed.returncode == 2
    assert "still WAITING_FOR_RESOURCES after 0 seconds" in failed.stderr
    assert "tpu/delete.sh --name=wmt --zone=us-west4-a" in failed.stderr

    programs.answer({("describe",): [NOT_FOUND, "FAILED"]})
    failed = programs.run("create.sh", *POD, "--poll=0")
    assert failed.returncode == 2
    assert "quota" in failed.stderr


def test_gcloud_failing_is_passed_on(programs):
    programs.answer({("describe",): [(1, "ERROR: Reauthentication required.")]})
    failed = programs.run("create.sh", *POD)
    assert failed.returncode != 0
    assert "Reauthentication required." in failed.stderr
    assert "gcloud auth login" in failed.stderr
    assert len(programs.calls()) == 1

    programs.answer({("describe",): [NOT_FOUND], ("create",): [(1, "ERROR: quota exceeded")]})
    failed = programs.run("create.sh", *POD)
    assert failed.returncode == 1
    assert "quota exceeded" in failed.stderr
    assert len(programs.calls()) == 2


# --- install, run, follow, stop ---


def test_machines_and_images_can_use_buckets():
    extras = {path.name: "[tpu,gcs]" in path.read_text() for path in (TPU / "worker.sh", TPU / "gke/Dockerfile")}
    assert extras == {"worker.sh": True, "Dockerfile": True}


def test_install_brings_the_commit_to_every_worker(programs):
    done = programs.run("install.sh", *PLACE, "--setup=echo 'a b'")
    assert done.returncode == 0, done.stderr
    copy, unpack, setup = programs.calls()
    archive = programs.folder / "transformer.tar.gz"
    everywhere = ["--node=all", "--worker=all", "--batch-size=all"]
    assert copy == [*QUEUED, "scp", str(archive), "wmt:transformer.tar.gz", *everywhere, "--zone=us-west4-a"]
    assert unpack[:9] == [*QUEUED, "ssh", "wmt", *everywhere]
    assert unpack[9].endswith("tar -xzf transformer.tar.gz && bash transformer/tpu/worker.sh install")
    assert setup[9] == "--command=echo 'a b'"
    with tarfile.open(archive) as packed:
        assert "transformer/setup.py" in packed.getnames()

    programs.answer({("scp",): [(1, "no space left")]})
    failed = programs.run("install.sh", *PLACE)
    assert failed.returncode == 1
    assert len(programs.calls()) == 1

    assert "another --ref" in programs.run("install.sh", *PLACE, "--ref=nothing-of-that-name").stderr


def test_run_hands_the_arguments_over_whole(programs):
    assert programs.run("run.sh", *PLACE, "--", *RUN).returncode == 0
    [call] = programs.calls()
    assert call[:8] == [*QUEUED, "ssh", "wmt", "--node=all", "--worker=all"]
    command = call[9].removeprefix("--command=")
    # What the shell over there makes of it.
    there = subprocess.run(
        ["bash", "-c", f"bash() {{ printf '%s\\n' \"$@\"; }}; {command}"], capture_output=True, text=True, check=True
    )
    assert there.stdout.splitlines() == ["transformer/tpu/worker.sh", "start", "train", *RUN]


def test_logs_and_stop(programs):
    programs.run("logs.sh", *PLACE)
    programs.run("logs.sh", *PLACE, "--all", "--once", "--lines=20")
    programs.run("stop.sh", *PLACE, "--timeout=9")
    first, everyone, stop = ([word for word in call[6:] if "zone" not in word] for call in programs.calls())
    worker = "--command=bash transformer/tpu/worker.sh"
    assert first == ["--node=0", "--worker=0", "--batch-size=all", f"{worker} log 100 follow "]
    assert everyone == ["--node=all", "--worker=all", "--batch-size=all", f"{worker} log 20 once named"]
    assert stop == ["--node=all", "--worker=all", "--batch-size=all", f"{worker} stop 9"]


def test_delete_asks_unless_told(programs):
    programs.run("delete.sh", *PLACE)
    programs.run("delete.sh", *PLACE, "--yes")
    asks, does_not = programs.calls()
    assert asks == [*QUEUED, "delete", "wmt", "--force", "--zone=us-west4-a"]
    assert "--quiet" in does_not


# --- resume ---


def verbs(calls: list[list[str]]) -> list[str]:
    """What was done, without the looks."""
    done = []
    for call in calls:
        words = " ".join(call)
        verb = words.split("worker.sh ")[-1].split()[0].strip(";") if "worker.sh" in words else call[4]
        if verb not in ("describe", "status", "scp"):
            done.append(verb)
    return done


def resume(programs: Programs, *more: str) -> subprocess.CompletedProcess:
    return programs.run("resume.sh", *POD, "--spot", "--poll=0", *more, "--", "--config=x", WORKDIR)


def test_resume_recreates_what_was_taken_away(programs):
    states = ["ACTIVE", "ACTIVE", "SUSPENDING", "SUSPENDED", NOT_FOUND, "PROVISIONING", "ACTIVE"]
    unreachable = (255, "ssh: connection refused")
    workers = ["running", unreachable, unreachable, "absent", "running", "finished"]
    programs.answer({("describe",): states, ("worker.sh status",): workers})
    done = resume(programs)
    assert done.returncode == 0, done.stderr
    calls = programs.calls()
    assert verbs(calls) == ["delete", "create", "install", "stop", "start"]
    assert "--spot" in next(call for call in calls if call[4] == "create")
    assert "has finished" in done.stderr
    assert "cost money: tpu/delete.sh --name=wmt" in done.stderr


def test_resume_from_nothing_and_delete_when_done(programs):
    programs.answer({("describe",): [NOT_FOUND, NOT_FOUND, "ACTIVE"], ("worker.sh status",): ["absent", "finished"]})
    done = resume(programs, "--delete-when-done")
    assert done.returncode == 0, done.stderr
    assert verbs(programs.calls()) == ["create", "install", "stop", "start", "delete"]


def test_resume_bears_with_a_network_that_fails_for_a_moment(programs):
    programs.answer({("describe",): [(1, "network is unreachable"), "ACTIVE"], ("worker.sh status",): ["finished"]})
    done = resume(programs)
    assert done.returncode == 0
    assert "network is unreachable" in done.stderr

    programs.answer({("describe",): [(1, "network is unreachable")]})
    assert resume(programs, "--max-failures=2").returncode == 1


@pytest.mark.parametrize("end", ["interrupted", "never"])
def test_resume_starts_again_where_machines_came_back(programs, end):
    programs.answer({("describe",): ["ACTIVE"], ("worker.sh status",): [end, "finished"]})
    assert resume(programs).returncode == 0
    assert verbs(programs.calls()) == ["stop", "start"]


def test_resume_installs_again_where_that_failed(programs):
    workers = ["absent", "never", "finished"]
    programs.answer({("describe",): ["ACTIVE"], ("worker.sh status",): workers, ("scp",): [(1, "broken pipe"), ""]})
    done = resume(programs)
    assert done.returncode == 0
    assert "Installing did not succeed" in done.stderr
    assert verbs(programs.calls()) == ["install", "stop", "start"]


def test_resume_leaves_a_run_that_was_stopped(programs):
    programs.answer({("describe",): ["ACTIVE"], ("worker.sh status",): ["stopped"]})
    assert resume(programs, "--delete-when-done").returncode == 0
    assert verbs(programs.calls()) == []


def test_resume_gives_up_on_what_fails_again_and_again(programs):
    programs.answer(
        {("describe",): ["ACTIVE"], ("worker.sh status",): ["failed 1"], ("worker.sh log",): ["loss is nan"]}
    )
    failed = resume(programs, "--max-failures=2")
    assert failed.returncode == 1
    assert verbs(programs.calls()) == ["log", "stop", "start", "log"]
    assert "failed 1" in failed.stderr
    assert "tpu/delete.sh --name=wmt" in failed.stderr
    assert "loss is nan" in failed.stdout

    programs.answer({("describe",): [NOT_FOUND], ("create",): [(1, "quota exceeded")]})
    assert resume(programs, "--max-failures=2").returncode == 1
    assert verbs(programs.calls()) == ["create", "create"]


# --- on the worker: the script itself, with a program that stands for `transformer` ---

_TRAINING = """#!/usr/bin/env bash
# Before it says anything: it may be stopped as soon as it was heard.
case $2 in
  waits) trap 'echo saved; exit 0' TERM ;;
  hangs) trap '' TERM ;;
esac
echo "$LIBTPU_INIT_ARGS"
printf '<%s>\\n' "$@"
case $2 in
  fails) exit 3 ;;
  waits | hangs) while true; do sleep 0.05; done ;;
esac
"""


class Worker:
    def __init__(self, home: Path):
        self.script = home / "transformer/tpu/worker.sh"
        self.state = home / "transformer-run"
        program = home / "transformer-venv/bin/transformer"
        for folder in (self.script.parent, program.parent):
            folder.mkdir(parents=True)
        for name in ("worker.sh", "xla_flags.sh"):
            (self.script.parent / name).write_text((TPU / name).read_text())
        program.write_text(_TRAINING)
        program.chmod(0o755)

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess:
        command = ["bash", str(self.script), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def becomes(self, status: str) -> None:
        deadline = time.monotonic() + 30
        while (found := self("status").stdout.strip()) != status:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)

    def logs(self, text: str) -> None:
        deadline = time.monotonic() + 30
        while text not in self("log", "100", "once").stdout:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture
def worker(tmp_path):
    made = Worker(tmp_path)
    yield made
    made("stop", "0")


def test_worker_runs_detached_to_the_end(worker):
    assert worker("status").stdout == "never\n"
    assert worker("start", "train", "ends", "a  b'c").returncode == 0
    worker.becomes("finished")
    shown = worker("log", "100", "follow").stdout
    assert "<train>\n<ends>\n<a  b'c>\n(finished)\n" in shown
    assert "--xla_tpu_enable_async_collective_fusion_fuse_all_reduce=true --" in shown


def test_worker_tells_how_a_run_ended(worker):
    worker("start", "train", "fails")
    worker.becomes("failed 3")

    worker("start", "train", "waits")
    worker.logs("waits")
    worker.becomes("running")
    second = worker("start", "train", "waits")
    assert second.returncode == 1
    assert "tpu/stop.sh" in second.stderr
    assert worker("free").returncode == 1
    assert worker("stop", "30").returncode == 0
    assert worker("status").stdout == "stopped\n"
    assert "saved" in worker("log", "5", "once", "named").stdout

    # The machine goes down: everything on it gets SIGTERM.
    worker("start", "train", "waits")
    worker.logs("waits")
    os.kill(int((worker.state / "pid").read_text()), signal.SIGTERM)
    worker.becomes("interrupted")

    worker("start", "train", "ends")
    worker.becomes("finished")


def test_worker_kills_what_does_not_stop(worker):
    worker("start", "train", "hangs")
    worker.logs("hangs")
    killed = worker("stop", "0")
    assert killed.returncode == 1
    assert "killed" in killed.stderr
    worker.becomes("stopped")


def test_worker_without_an_installation(tmp_path):
    worker = Worker(tmp_path)
    (tmp_path / "transformer-venv/bin/transformer").unlink()
    assert worker("status").stdout == "absent\n"
    assert "tpu/install.sh first" in worker("start", "train").stderr
    assert "tpu/run.sh" in worker("log", "5", "once").stderr
    assert worker("--help").returncode == 0


# --- GKE ---


def test_the_jobset_has_what_matters(programs):
    done = programs.run("gke/apply.sh", *CLUSTER, "--slices=2", "--context=my cluster", "--", *RUN)
    assert done.returncode == 0, done.stderr
    [(call, manifest)] = programs.calls_and_input()
    assert call == ["kubectl", "--context=my cluster", "apply", "--filename=-"]
    assert "@" not in manifest
    jobset = yaml.safe_load(manifest)
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert jobset["metadata"]["name"] == "wmt"
    assert jobset["spec"]["failurePolicy"] == {"maxRestarts": 50}
    [job] = jobset["spec"]["replicatedJobs"]
    assert job["replicas"] == 2
    spec = job["template"]["spec"]
    assert (spec["parallelism"], spec["completions"], spec["backoffLimit"]) == (4, 4, 0)
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["terminationGracePeriodSeconds"] >= 60
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "4x4",
    }
    [container] = pod["containers"]
    assert container["image"] == "host/image:1"
    assert container["args"] == ["train", *RUN]
    assert "volumes" not in pod and "volumeMounts" not in container
    assert container["resources"] == {"requests": {"google.com/tpu": 4}, "limits": {"google.com/tpu": 4}}


def test_a_share_is_mounted_in_every_container(programs):
    done = programs.run("gke/apply.sh", *CLUSTER, "--nfs=10.0.0.2:/runs", "--", "--config=x", SHARED)
    assert done.returncode == 0, done.stderr
    [(_, manifest)] = programs.calls_and_input()
    pod = yaml.safe_load(manifest)["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert pod["volumes"] == [{"name": "runs", "nfs": {"server": "10.0.0.2", "path": "/runs"}}]
    assert pod["containers"][0]["volumeMounts"] == [{"name": "runs", "mountPath": "/mnt/runs"}]


def test_apply_refuses_what_cannot_be(programs):
    def complaint(*arguments: str) -> str:
        failed = programs.run("gke/apply.sh", *CLUSTER, *arguments, "--", "--config=x", WORKDIR)
        assert failed.returncode == 2
        return failed.stderr

    assert "small letters" in complaint("--name=My_Run")
    assert "SERVER:/SHARE" in complaint("--nfs=10.0.0.2")
    assert "has 16 chips" in complaint("--chips-per-host=5")
    assert "4x4x4" in complaint("--topology=16")
    assert programs.calls() == []

    programs.answer({("kubectl",): [(1, "no matches for kind JobSet")]})
    assert programs.run("gke/apply.sh", *CLUSTER, "--", "--config=x", WORKDIR).returncode == 1


def test_xpk_gets_the_command_as_a_shell_reads_it(programs):
    programs.run("gke/xpk.sh", *COMPLETE["gke/xpk.sh"])
    [call] = programs.calls()
    assert call[:3] == ["xpk", "workload", "create"]
    expected = {"--workload=wmt", "--cluster=c", "--tpu-type=v5litepod-16", "--num-slices=1", "--max-restarts=50"}
    assert expected <= set(call)
    assert not [word for word in call if word.startswith("--storage")]
    command = call[-1].removeprefix("--command=")
    there = subprocess.run(
        ["bash", "-c", f"bash() {{ printf '%s\\n' \"$@\"; }}; {command}"], capture_output=True, text=True, check=True
    )
    assert there.stdout.splitlines() == ["/transformer/tpu/gke/entrypoint.sh", "train", *RUN]


def entrypoint(folder: Path, *arguments: str) -> subprocess.Popen:
    program = folder / "transformer"
    program.write_text(_TRAINING)
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    command = ["bash", str(TPU / "gke/entrypoint.sh"), *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_a_container_told_to_stop_saves_but_is_not_finished(tmp_path):
    assert entrypoint(tmp_path, "train", "ends").wait(timeout=60) == 0
    assert entrypoint(tmp_path, "train", "fails").wait(timeout=60) == 3
    container = entrypoint(tmp_path, "train", "waits")
    while "<waits>" not in container.stdout.readline():
        pass
    container.terminate()
    assert container.communicate(timeout=60)[0] == "saved\n"
    assert container.returncode == 143


# --- SLURM ---


def test_submit(programs):
    done = programs.run("slurm/submit.sh", *COMPLETE["slurm/submit.sh"])
    assert done.returncode == 0, done.stderr
    [call] = programs.calls()
    assert {"--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=4", "--signal=B:USR1@300", "--partition=gpu"} <= set(
        call
    )
    assert call[-4:] == [str(TPU / "slurm/train.sbatch"), *RUN]


def job(programs: Programs) -> subprocess.Popen:
    environment = {**programs.environment, "SLURM_JOB_ID": "7"}
    return subprocess.Popen(
        ["bash", str(TPU / "slurm/train.sbatch"), *RUN], env=environment, stdout=subprocess.PIPE, text=True
    )


def test_a_job_runs_one_process_a_gpu(programs):
    assert job(programs).wait(timeout=60) == 0
    assert programs.calls() == [["srun", "--kill-on-bad-exit=1", "--gpu-bind=none", "transformer", "train", *RUN]]
    programs.answer({("srun",): [(5, "a process failed")]})
    assert job(programs).wait(timeout=60) == 5
    assert [call[0] for call in programs.calls()] == ["srun"]


def test_a_job_out_of_time_saves_and_queues_again(programs, tmp_path):
    # Training goes on until scancel has told it to stop.
    (tmp_path / "programs/srun").write_text(
        f"#!/usr/bin/env bash\necho started\nuntil grep -qs scancel {tmp_path}/calls.jsonl; do sleep 0.05; done\n"
    )
    running = job(programs)
    assert running.stdout.readline() == "started\n"
    running.send_signal(signal.SIGUSR1)
    assert "saving" in running.communicate(timeout=60)[0]
    assert running.returncode == 0
    assert programs.calls() == [["scancel", "--signal=TERM", "7"], ["scontrol", "requeue", "7"]]


# --- flags ---


def test_flags_come_before_what_the_environment_brings():
    shown = subprocess.run(
        ["bash", "-c", f'set -eu; . {shlex.quote(str(TPU / "xla_flags.sh"))}; echo "$LIBTPU_INIT_ARGS"'],
        env={**os.environ, "LIBTPU_INIT_ARGS": "--mine=1"},
        capture_output=True,
        text=True,
        check=True,
    )
    *own, last = shown.stdout.split()
    assert last == "--mine=1"
    assert len(own) >= 3
    assert all(flag.startswith("--") and "=" in flag for flag in own)
