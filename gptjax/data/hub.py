"""Hugging Face data sets, `hf://name[/config][:split]`, streamed through the `datasets` library.

`name` is owner/name (or a bare name) on the hub, with the configuration as a third part, or the absolute path of a
local folder of data files (`hf:///data/set`). The split is `train` where none is named. No code of a data set is run.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from gptjax.data.errors import DataError

PREFIX = "hf://"


class Address(NamedTuple):
    """What an `hf://` source names."""

    name: str
    config: str | None
    split: str


def parse(source: str) -> Address:
    """Takes the source apart; raises `DataError` where it has no name, or more parts than owner/name/config."""
    path, colon, split = source.removeprefix(PREFIX).partition(":")
    parts = path.split("/")
    if not path.strip("/") or (colon and not split) or (not path.startswith("/") and len(parts) > 3):
        raise DataError(f"{source}: not of the form hf://name[/config][:split]")
    if path.startswith("/") or len(parts) < 3:
        return Address(path, None, split or "train")
    return Address("/".join(parts[:2]), parts[2], split or "train")


def rows(source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(origin, fields) of each row in order, streamed; the origin names the row, counted from 0."""
    import datasets  # slow to import, and needed only here

    address = parse(source)
    with _plainly(source):
        stream = datasets.load_dataset(address.name, address.config, split=address.split, streaming=True)
        for number, row in enumerate(stream):
            yield f"{source} row {number}", row


def fingerprint(source: str) -> str:
    """SHA-256 (hex) over the set's own hash, which follows its files or its commit, and over the split."""
    import datasets

    address = parse(source)
    with _plainly(source):
        builder = datasets.load_dataset_builder(address.name, address.config)
        return hashlib.sha256(repr((address, builder.config_id, builder.hash)).encode()).hexdigest()


@contextmanager
def _plainly(source: str) -> Iterator[None]:
    """Whatever the library reports (no such set, no network, a bad split, a bad file) as one line."""
    from datasets.exceptions import DatasetsError

    try:
        yield
    except DataError:
        raise
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        cause = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(f"{source}: {cause[0]}") from None
