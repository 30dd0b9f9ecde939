"""What stops a plan."""


class PlanError(ValueError):
    """Something a plan cannot be made of, with the way out."""


class DoesNotFitError(PlanError):
    """A step that needs more memory than a device has.

    Attributes:
      needed, available: bytes, as the compiler says.
      fixed: bytes of it that parameters and optimizer state take.
      advice: what would help.
    """

    def __init__(self, needed: float, available: float, fixed: float, advice: tuple[str, ...]):
        needs, free, more, state = (
            f"{size / 2**30:.2f} GiB" for size in (needed, available, needed - available, fixed)
        )
        told = (
            f"DOES NOT FIT: a step needs {needs} of a device's memory, and there are {free}: {more} too much. "
            f"Parameters and optimizer state are {state} of that."
        )
        super().__init__("\n".join([told, *(f"  - {each}" for each in advice)]))
        self.needed = needed
        self.available = available
        self.fixed = fixed
        self.advice = advice
