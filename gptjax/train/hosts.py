"""What the processes of one job agree on before they go on together."""

from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from gptjax.config import ConfigError
from gptjax.data.errors import DataError
from gptjax.train.folder import FolderError

Result = TypeVar("Result")
MESSAGE_BYTES = 2000
USERS = (ConfigError, DataError, FolderError)
"""Errors that a user can mend."""


class Elsewhere(RuntimeError):
    """Another process of this job failed; the message is one line, its own."""


def agreed(action: Callable[[], Result]) -> Result:
    """`action()`; where it raises on any process, every process raises. All of them must call this.

    A process that alone went on would wait for the others until the coordinator gives up. Raises the process's own
    error, and otherwise, in the words of the first one that failed, `FolderError` for what a user can mend and
    `Elsewhere` for the rest.
    """
    if jax.process_count() == 1:
        return action()
    failure: Exception | None = None
    try:
        result = action()
    except Exception as error:
        failure = error
    said = _told(failure)
    if failure is not None:
        raise failure
    for process, message in enumerate(said):
        if message:
            kind = FolderError if message[0] == "u" else Elsewhere
            raise kind(f"process {process}: {message[1:]}")
    return result


def _told(failure: Exception | None) -> list[str]:
    """What every process has to say, in their order; nothing where all is well."""
    text = ""
    if failure is not None:
        text = ("u" if isinstance(failure, USERS) else "o") + (str(failure) or type(failure).__name__)
    encoded = text.encode()[:MESSAGE_BYTES]
    padded = np.frombuffer(encoded.ljust(MESSAGE_BYTES, b"\0"), np.uint8)
    gathered = multihost_utils.process_allgather(padded)
    return [bytes(row).rstrip(b"\0").decode(errors="replace") for row in np.asarray(gathered)]
