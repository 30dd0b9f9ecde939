"""What stops an export."""


class ExportError(Exception):
    """A model cannot be written for another program: says why, and the way out."""
