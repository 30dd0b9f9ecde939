"""The flag by which a user allows code that a saved config names (`config.check_code`)."""

from absl import flags


def define_flags(values: flags.FlagValues) -> None:
    text = "A module outside this package that the saved config names (package.module) and that may be imported"
    flags.DEFINE_multi_string("allow_code", [], text, flag_values=values)
