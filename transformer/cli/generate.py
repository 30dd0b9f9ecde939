"""`transformer generate`: a language model goes on with prompts."""

import dataclasses
import json
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from absl import flags
from tqdm import tqdm

from transformer.cli import decoding_flags, files
from transformer.cli.usage import UsageError
from transformer.cli.verb import Arguments, Verb
from transformer.decoding.sampling_settings import Sampling

if TYPE_CHECKING:
    from transformer.evaluation.generator import Generated, Generator

_DESCRIPTION = r"""
    transformer generate --workdir=DIR --prompt=TEXT [--temperature=0.8 ...]

    Goes on with a text, by a run whose model.architecture is language_model. One continuation of one prompt is printed
    as it comes; several, each after a line that says of what. Ctrl-C ends with what there is. In --prompt and --stop,
    \n is a line end and \\ a backslash; lines of a file are taken as they are. A run that learned from pairs wants a
    line end at the end of its prompts. The same prompt, seed and settings give the same text, whatever else is asked
    for.

    Examples:
      transformer generate --workdir=runs/shakespeare --prompt="ROMEO:" --temperature=0.8 --max_tokens=500
      transformer generate --workdir=runs/lm --prompt="Once upon a time" --samples=3 --top_p=0.9 --seed=1
      transformer generate --workdir=runs/lm --prompts=prompts.txt --json > continuations.jsonl
          (a prompt a line; - reads stdin; JSON Lines with prompt, sample, text, log_probability, reason, tokens)
      transformer generate --workdir=runs/lm --prompts=prompts.jsonl --prompts_format=jsonl
          (lines such as {"prompt": "Q: Why?\nA:"}, for prompts of several lines)
      transformer generate --workdir=runs/lm --prompt="Q: Why?\nA:" --stop="\n" --temperature=0
"""


def _define_flags(values: flags.FlagValues) -> None:
    decoding_flags.define_flags(values)
    flags.DEFINE_multi_string("prompt", [], "What to go on with. May be repeated; may be empty.", flag_values=values)
    flags.DEFINE_string("prompts", None, "A file of prompts, a line each; -: stdin.", flag_values=values)
    text = "What a line of --prompts is: the prompt itself, letter for letter; or a JSON object whose prompt it is."
    flags.DEFINE_enum("prompts_format", "text", ["text", "jsonl"], text, flag_values=values)
    flags.DEFINE_integer("max_tokens", 256, "The most tokens of a continuation.", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("samples", 1, "Continuations of every prompt.", lower_bound=1, flag_values=values)
    text = "Divides the logits: below 1 plainer, above 1 wilder; 0: always the most probable token."
    flags.DEFINE_float("temperature", 1.0, text, lower_bound=0, flag_values=values)
    flags.DEFINE_integer("top_k", 0, "Draw from the k most probable tokens; 0: all.", lower_bound=0, flag_values=values)
    text = "Draw from the most probable tokens that make up this much probability; 1: all."
    flags.DEFINE_float("top_p", 1.0, text, flag_values=values)
    text = "Draw from tokens at least this many times as probable as the most probable one; 0: all."
    flags.DEFINE_float("min_p", 0.0, text, flag_values=values)
    text = "Makes tokens of the prompt and of the text so far less likely, by this factor; 1: does not."
    flags.DEFINE_float("repetition_penalty", 1.0, text, flag_values=values)
    flags.DEFINE_multi_string(
        "stop", [], "A text that ends a continuation, and is left out of it. May be repeated.", flag_values=values
    )
    flags.DEFINE_integer("seed", 0, "Another one draws other texts.", flag_values=values)
    flags.DEFINE_boolean("json", False, "Print JSON Lines.", flag_values=values)


def _run(given: Arguments) -> None:
    chosen = given.flags
    # All that can be wrong with what was typed is told before a model is loaded.
    sampling = _sampling(given)
    prompts = list(_prompts(given))
    if not prompts:
        raise UsageError("Nothing to go on with: give --prompt='...' (it may be empty), or --prompts=FILE.")
    stop = _typed(given, "stop")
    generator = decoding_flags.open_generator(given)
    settings = {
        "max_tokens": chosen.max_tokens,
        "stop": stop,
        "sampling": sampling,
        "seed": chosen.seed,
    }
    if len(prompts) * chosen.samples == 1 and not chosen.json:
        _stream(generator, prompts[0], settings)
        return
    # Blocks, so that what is finished is printed, and not lost when the command is stopped.
    block = max(1, 32 // chosen.samples)
    total = len(prompts) * chosen.samples
    with tqdm(total=total, unit=" texts", disable=not sys.stderr.isatty(), leave=False) as bar:
        for first in range(0, len(prompts), block):
            part = prompts[first : first + block]
            found = generator.generate(part, samples=chosen.samples, progress=bar.update, **settings)
            with bar.external_write_mode():  # on a terminal the bar would stand in the first line
                for prompt, texts in zip(part, found, strict=True):
                    for number, text in enumerate(texts, start=1):
                        _print(prompt, number, text, as_json=chosen.json)
                sys.stdout.flush()


def _stream(generator: "Generator", prompt: str, settings: dict[str, Any]) -> None:
    texts = generator.stream(prompt, **settings)  # what it warns of stands before the prompt
    sys.stdout.write(prompt)
    sys.stdout.flush()
    try:
        for text in texts:
            sys.stdout.write(text)
            sys.stdout.flush()
    finally:
        # Also after Ctrl-C: what there is ends with its line.
        sys.stdout.write("\n")
        sys.stdout.flush()


def _print(prompt: str, number: int, text: "Generated", *, as_json: bool) -> None:
    if as_json:
        record = {"prompt": prompt, "sample": number, "text": text.text, "log_probability": text.log_probability}
        print(json.dumps(record | {"reason": text.reason, "tokens": text.tokens}, ensure_ascii=False))
        return
    shown = next((line for line in prompt.split("\n") if line.strip()), "(no prompt)")
    print(f"--- {shown} [{number}]\n{prompt}{text.text}\n")


def _sampling(given: Arguments) -> Sampling:
    names = [field.name for field in dataclasses.fields(Sampling)]
    try:
        return Sampling(**{name: given.flags[name].value for name in names})
    except ValueError as error:
        raise UsageError(f"--{error}") from None


def _prompts(given: Arguments) -> Iterator[str]:
    yield from _typed(given, "prompt")
    if given.flags.prompts is None:
        return
    lines = files.read_lines(given, "prompts")
    if given.flags.prompts_format == "text":
        yield from lines
        return
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _prompt_of(line, f"--prompts={given.flags.prompts}, line {number},")


def _prompt_of(line: str, place: str) -> str:
    """Of a line of JSON."""
    try:
        record = json.loads(line)
        if not (isinstance(record, dict) and isinstance(record.get("prompt"), str)):
            raise UsageError(f'{place} is no JSON object with a text "prompt". Write {{"prompt": "..."}}.')
        record["prompt"].encode()
    except json.JSONDecodeError as error:
        raise UsageError(f"{place} is not JSON ({error.msg}, column {error.colno}). Correct it.") from None
    except UnicodeEncodeError as error:
        raise UsageError(f"{place} has half a character (\\ud800 to \\udfff, character {error.start}).") from None
    return record["prompt"]


def _typed(given: Arguments, flag: str) -> list[str]:
    """The texts of a flag that may be repeated."""
    texts = given.flags[flag].value
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:  # Python keeps bytes of the command line that are no text as surrogates
            raise UsageError(f"--{flag}={text!r} is not UTF-8 (character {error.start}). Convert it first.") from None
    return [_unescaped(text) for text in texts]


def _unescaped(text: str) -> str:
    return re.sub(r"\\(\\|n)", lambda found: {"n": "\n"}.get(found[1], found[1]), text)


GENERATE = Verb(
    name="generate",
    summary="Go on with text, by a trained language model.",
    description=_DESCRIPTION,
    define_flags=_define_flags,
    run=_run,
    overridable=("mesh.",),
)
