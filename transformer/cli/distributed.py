"""Several processes as one program: which there are is found in the environment, or told by flags.

One process a host is what TPUs want; on GPUs one a host or one a GPU. All of them run the same command.
"""

import contextlib
import glob
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator

from absl import flags, logging

from transformer.cli.usage import UsageError
from transformer.cli.verb import Arguments

_FLAGS = ("coordinator_address", "num_processes", "process_id")
# A process that is not heard of for so long is taken for dead, and the others end.
HEARTBEAT_SECONDS = 30


def define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "coordinator_address",
        None,
        "HOST:PORT of process 0, where several processes run this command and their environment does not say so "
        "(TPU pods, GKE and SLURM do).",
        flag_values=values,
    )
    flags.DEFINE_integer("num_processes", None, "How many processes there are.", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.", lower_bound=0, flag_values=values)
    flags.DEFINE_integer(
        "startup_timeout", 300, "Seconds to wait for all processes.", lower_bound=1, flag_values=values
    )


def start(given: Arguments) -> None:
    """Joins the other processes, if there are any; returns when all are there.

    Raises:
      UsageError: the flags or the environment leave something out.
    """
    settings = {name: getattr(given.flags, name) for name in _FLAGS}
    told = [name for name, value in settings.items() if value is not None]
    source = "--" + ", --".join(_FLAGS) if told else _environment()
    if source is None:
        return
    if told:
        _check(settings)
    import jax  # here, so that `--help` need not wait for it

    logging.info("Joining the other processes (%s).", source)
    seconds = given.flags.startup_timeout
    # It would take SIGTERM for itself: until the run listens for one, it ends the process as it does everywhere.
    jax.config.update("jax_enable_preemption_service", False)
    with _time_out(seconds, source):
        try:
            # Its own time-out ends the process with a stack trace: ours comes first.
            jax.distributed.initialize(
                **(settings if told else {}),
                local_device_ids=_devices_of_a_node(),
                initialization_timeout=seconds + 60,
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            )
        except (ValueError, RuntimeError) as error:
            raise UsageError(
                f"The processes cannot be joined by {source}: {error}. Give --{', --'.join(_FLAGS)} to every process."
            ) from error
    logging.info("Process %d of %d, with %d of %d devices.", *_here(jax))


def leave(error: BaseException, *, explained: bool) -> None:
    """Of several processes: ends this one at once, so that the others notice. Alone: returns.

    An ordinary end would wait for all of them. `explained`: the error's own text is enough, without a traceback, and
    the exit code is that of what the user can put right.
    """
    jax = sys.modules.get("jax")
    if jax is None or not jax.distributed.is_initialized():
        return
    number = jax.process_index()
    # Between CPUs it is Gloo that carries the messages, and JAX passes on what it says as a ValueError.
    if isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error):
        first_line = str(error).partition("\n")[0]
        print(
            f"[process {number}] The run cannot go on ({first_line}). If another process has ended, see what it says. "
            "The same command, started again on every host, goes on from the last checkpoint.",
            file=sys.stderr,
        )
    elif isinstance(error, KeyboardInterrupt):
        print(f"[process {number}] Interrupted. The run ends on every host.", file=sys.stderr)
    else:
        text = str(error) if explained else "".join(traceback.format_exception(error))
        print(f"[process {number}] {text}", file=sys.stderr)
    sys.stderr.flush()
    os._exit(130 if isinstance(error, KeyboardInterrupt) else 2 if explained else 1)


def _here(jax) -> tuple[int, int, int, int]:
    return jax.process_index(), jax.process_count(), jax.local_device_count(), jax.device_count()


def _check(settings: dict[str, str | int | None]) -> None:
    missing = [f"--{name}" for name, value in settings.items() if value is None]
    if missing:
        raise UsageError(
            f"{', '.join(missing)} is missing: several processes need --{', --'.join(_FLAGS)}, "
            "the first two the same for all of them."
        )
    address, count, number = settings.values()
    if not str(address).rpartition(":")[2].isdecimal() or ":" not in str(address):
        raise UsageError(f"--coordinator_address={address} has no port. Write HOST:PORT, such as 10.0.0.2:9900.")
    if number >= count:
        raise UsageError(f"--process_id={number} is too large: --num_processes={count} are counted from 0.")


def _environment() -> str | None:
    """What in the environment says that there are several processes; None when nothing does."""
    found = os.environ.get
    if "SLURM_STEP_ID" in os.environ and int(found("SLURM_NTASKS", "1")) > 1:
        return f"SLURM: {found('SLURM_NTASKS')} tasks on {found('SLURM_STEP_NODELIST')}"
    if int(found("OMPI_COMM_WORLD_SIZE", "1")) > 1:
        return f"Open MPI: {found('OMPI_COMM_WORLD_SIZE')} processes"
    if "," in found("TPU_WORKER_HOSTNAMES", ""):
        return f"TPU_WORKER_HOSTNAMES={found('TPU_WORKER_HOSTNAMES')}"
    if "MEGASCALE_COORDINATOR_ADDRESS" in os.environ:
        return f"MEGASCALE_COORDINATOR_ADDRESS={found('MEGASCALE_COORDINATOR_ADDRESS')}"
    if glob.glob("/dev/accel[0-9]*") or glob.glob("/dev/vfio/[0-9]*"):
        return "this TPU's metadata"
    return None


def _devices_of_a_node() -> list[int] | None:
    """All GPUs of a node, where SLURM has started one process on each; None: JAX's own choice, one GPU a process.

    Of SLURM's processes JAX gives each the GPU of its number on its node, also where it is alone there.
    """
    found = os.environ.get
    alone = re.fullmatch(r"1(\(x\d+\))?", found("SLURM_STEP_TASKS_PER_NODE", ""))
    if not alone or "JAX_LOCAL_DEVICE_IDS" in os.environ:
        return None
    count = int(found("SLURM_GPUS_ON_NODE") or 0)
    return list(range(count)) if count > 1 else None


@contextlib.contextmanager
def _time_out(seconds: int, source: str) -> Iterator[None]:
    """Ends the process with a message unless the block is left in time."""

    def end() -> None:
        print(
            f"After {seconds} s not all processes are there ({source}). Start the same command on every host; check "
            "that each can reach the coordinator's port, and that none still runs from before. "
            "--startup_timeout waits longer.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
