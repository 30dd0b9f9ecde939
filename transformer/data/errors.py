"""What is raised for text that cannot be trained on."""


class DataError(ValueError):
    """A fault in the data, with the file, the line where there is one, and the way out."""
