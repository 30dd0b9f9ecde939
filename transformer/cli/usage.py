"""The error of a command line that cannot be run."""


class UsageError(ValueError):
    """What is wrong with what was typed, and what to type instead."""
