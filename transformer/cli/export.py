"""`transformer export`: a trained model for another program."""

from absl import flags

from transformer.cli import arguments, files, process
from transformer.cli.usage import UsageError
from transformer.cli.verb import Arguments, Verb

_DESCRIPTION = """
    transformer export --to=ctranslate2 --workdir=DIR --output=FOLDER [--checkpoint=WHICH]

    Writes the translation model of a run for another program.

    ctranslate2: a model folder of CTranslate2, a C++ engine, in float32; it can be loaded with int8 weights. The
    run's SentencePiece model lies beside it, and README.txt with the lines of Python that translate. Adapters are added
    to their matrices. What CTranslate2 cannot compute (T5 and ALiBi positions, windows, soft caps, attention classes of
    your own, language models) is refused. Needs pip install 'transformer[ctranslate2]'.

    Example:
      transformer export --to=ctranslate2 --workdir=runs/mine --output=runs/mine-ctranslate2
"""


def _define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_enum("to", None, ["ctranslate2"], "Which program: ctranslate2.", flag_values=values)
    arguments.define_workdir(values, "The folder of a trained run.")
    flags.DEFINE_string("output", None, "The folder to make; what is there must be empty.", flag_values=values)
    arguments.define_checkpoint(values)
    process.define_flags(values)


def _run(given: Arguments) -> None:
    if not given.flags.to:
        raise UsageError("--to is missing: say which program to export for, --to=ctranslate2.")
    workdir = arguments.require_workdir(given)
    output = files.to_make(given, "output")
    process.start(given)
    from transformer.data.tokenizer import Tokenizers
    from transformer.export import ctranslate2
    from transformer.training import processes
    from transformer.training.saved_run import choose
    from transformer.training.workdir import Workdir

    saved = choose(Workdir(workdir), given.flags.checkpoint)
    tokenizers = Tokenizers.from_files(saved.metadata.tokenizer_files)
    ctranslate2.check(saved.config, tokenizers)  # before much is read
    params = saved.restore_on_host()
    if processes.speaks():
        ctranslate2.write(saved.config, tokenizers, params, output, f"{saved.name} of {workdir}")
        print(f"{output}: {saved.name} of {workdir}. {output / 'README.txt'} says how to use it.")


EXPORT = Verb(
    name="export",
    summary="Write a trained model for another program (CTranslate2).",
    description=_DESCRIPTION,
    define_flags=_define_flags,
    run=_run,
)
