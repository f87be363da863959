"""What is wrong with the data a user gave."""


class DataError(ValueError):
    """A file, line or byte that cannot be used: one line that names the place, the value and the way out."""
