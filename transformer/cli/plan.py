"""`transformer plan`: memory, time and messages of a run on a TPU, without one; or its memory on this machine."""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from transformer.cli import arguments, config_files, files, process
from transformer.cli.usage import UsageError
from transformer.cli.verb import EVERY_FIELD, Arguments, Verb
from transformer.config import Config
from transformer.planning import libtpu

if TYPE_CHECKING:
    from transformer.planning.program import Task

# As a topology: the devices of this machine.
HERE = "here"

_DESCRIPTION = """
    transformer plan --config=CONFIG --topology=[SLICESx]CHIP:GRID|here [--search] [--json=FILE]
        [--config.FIELD=VALUE ...]

    Compiles the training step for a TPU pod that need not be there, with the TPU's own compiler,
    and counts what the program does: memory of a chip by kind, operations, memory traffic, messages
    between chips. Held against the chip's figures, this gives the least time of a step, what bounds
    it, tokens a second, utilisation, and hours for the whole run. Compiling takes a minute or
    two; neither a TPU nor the text is needed, only libtpu (pip install libtpu).

    Chips: v4, v5e, v5p, v6e, tpu7x.

    --topology=here compiles the step for this machine's own devices, CPU or GPU, and tells what takes
    their memory.

    --search tries meshes, batch sizes up to --most_tokens, model.remat and training.accumulate, the
    most promising first, for --minutes, and ranks what fits by tokens a second.

    Examples:
      transformer plan --config=wmt14_en_de_big --topology=v5e:4x4
      transformer plan --config=wmt14_en_de_big --topology=2xv5e:16x16 --json=plan.json
      transformer plan --config=wmt14_en_de_big --topology=v5e:16x16 --search --most_tokens=500000
      transformer plan --config=multi30k_en_de:FOLDER --topology=here
      transformer plan --published
          (measured step times of others beside what this predicts of them)
"""


def _define_flags(values: flags.FlagValues) -> None:
    arguments.define_config(values)
    arguments.define_workdir(values, "Plan with the config saved in this run.")
    text = "The chips: v5e:16x16, or 2xv5e:16x16 for two slices with a data center network between them; or here."
    flags.DEFINE_string("topology", None, text, flag_values=values)
    process.define_cpu_devices(values)
    flags.DEFINE_string("json", None, "Write the plan to this file as JSON.", flag_values=values)
    text = "Only print step times that others published beside what the roofline says of them."
    flags.DEFINE_boolean("published", False, text, flag_values=values)
    text = "Try meshes, batch sizes, model.remat and training.accumulate, and rank those that fit."
    flags.DEFINE_boolean("search", False, text, flag_values=values)
    text = "With --search: begin no further compilation after so many minutes."
    flags.DEFINE_float("minutes", 20.0, text, lower_bound=0, flag_values=values)
    text = "With --search: the largest batch tried, in target tokens; 0: the config's data.batch_tokens."
    flags.DEFINE_integer("most_tokens", 0, text, lower_bound=0, flag_values=values)


def _run(given: Arguments) -> None:
    if given.flags.published:
        libtpu.prepare_process()
        from transformer.planning import published

        print(published.table(), end="")
        return
    config = arguments.effective_config(given, _base_config(given.flags))
    if not given.flags.topology:
        raise UsageError("--topology is missing: say for which chips, for example --topology=v5e:16x16, or here.")
    output = files.to_write(given, "json")
    if given.flags.topology == HERE:
        _plan_here(given, config, output)
        return
    if given.flags.cpu_devices:
        raise UsageError("--cpu_devices is for --topology=here: a topology says itself how many chips there are.")
    libtpu.prepare_process()
    from transformer.planning import report

    _tell_vocabulary(config)
    if given.flags.search:
        _search(given, config, output)
        return
    from transformer.planning.plan import make_plan
    from transformer.planning.program import Task
    from transformer.planning.topology import Topology

    topology = Topology.parse(given.flags.topology)
    task = Task.of(_with_slices(config, topology.slices), topology.devices())
    print(f"Compiling the step of {task.shape} for {topology}: a minute or two ...", file=sys.stderr, flush=True)
    with _refusal_written(output, str(topology), task):
        plan = make_plan(task, task.compile(), topology)
    print(report.table(plan), end="")
    if output:
        output.write_text(plan.to_json(), encoding="utf-8")


def _plan_here(given: Arguments, config: Config, output: Path | None) -> None:
    if given.flags.search:
        raise UsageError("--search goes by a chip's figures: give a --topology of chips.")
    process.choose_devices(given)
    import jax

    from transformer.planning import here, report
    from transformer.planning.program import Task

    _tell_vocabulary(config)
    task = Task.of(config, jax.local_devices())
    print(f"Compiling the step of {task.shape} ...", file=sys.stderr, flush=True)
    with _refusal_written(output, HERE, task):
        plan = here.plan_here(task)
    print(report.here(plan), end="", flush=True)
    if output:
        output.write_text(plan.to_json(), encoding="utf-8")
    with _refusal_written(output, HERE, task):
        plan.check(task)


@contextlib.contextmanager
def _refusal_written(output: Path | None, topology: str, task: "Task") -> Iterator[None]:
    """Has what does not fit told in the file too."""
    from transformer.planning.errors import DoesNotFitError

    try:
        yield
    except DoesNotFitError as error:
        if output:
            record = {"topology": topology, "batch": str(task.shape), "fits": False} | vars(error)
            output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        raise


def _search(given: Arguments, config: Config, output: Path | None) -> None:
    from tqdm import tqdm

    from transformer.planning import report
    from transformer.planning.search import search
    from transformer.planning.topology import Topology

    topology = Topology.parse(given.flags.topology)
    with tqdm(desc="Searching", unit=" candidates", file=sys.stderr) as bar:

        def progress(done: int, total: int, what: str) -> None:
            bar.total = total
            bar.set_postfix_str(what, refresh=False)
            bar.update(done - bar.n)

        most = given.flags.most_tokens or config.data.batch_tokens
        results = search(config, topology, most_tokens=most, seconds=60 * given.flags.minutes, progress=progress)
    print(report.ranking(results), end="")
    best = next((result for result in results if result.plan is not None), None)
    if best is not None:
        print(f"\nThe first one: {best.candidate.flags(config)}")
    if output:
        records = [
            {"flags": result.candidate.flags(config), "reason": result.reason}
            | ({"plan": json.loads(result.plan.to_json())} if result.plan is not None else {})
            for result in results
        ]
        output.write_text(json.dumps(records, indent=2) + "\n", encoding="utf-8")


def _tell_vocabulary(config: Config) -> None:
    """What was assumed of the vocabulary, where something decides that a plan does not read."""
    from transformer.planning.program import vocabulary_from

    decides = vocabulary_from(config)
    if decides:
        size = config.tokenizer.vocab_size
        told = f"Planned for a vocabulary of {size:,} pieces; how many the run has is decided by {decides}."
        print(f"{told} If you know, say so by --config.tokenizer.vocab_size=N.", file=sys.stderr)


def _with_slices(config: Config, slices: int) -> Config:
    """The topology says how many slices there are, unless the config says so itself."""
    if config.mesh.slices == 1:
        config.mesh.slices = slices
    return config


def _base_config(values: flags.FlagValues) -> Config:
    if bool(values.config) == bool(values.workdir):
        raise UsageError("Give --config or --workdir: what is to be planned, for example --config=wmt14_en_de_big.")
    return config_files.load(values.config) if values.config else arguments.saved_config(values.workdir)


PLAN = Verb(
    name="plan",
    summary="What a run needs on a TPU, and how fast it can go, without one; or its memory on this machine.",
    description=_DESCRIPTION,
    define_flags=_define_flags,
    run=_run,
    overridable=EVERY_FIELD,
)
