"""What is raised for text that cannot be scored."""


class EvaluationError(Exception):
    """No score can be had, with the reason and the way out."""
