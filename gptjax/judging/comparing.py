"""Two runs on one text: `gptjax compare`."""

import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gptjax.config import SEEDS, ConfigError
from gptjax.data import corpora
from gptjax.data.errors import DataError
from gptjax.evals import differences, words
from gptjax.evals.differences import Comparison, Labels, Units
from gptjax.judging import frequency, scored
from gptjax.judging.frequency import Training
from gptjax.judging.judge import Say
from gptjax.judging.scored import Read
from gptjax.report.comparison import Reader


class Compared(NamedTuple):
    """What `gptjax compare` tells."""

    readers: tuple[Reader, Reader]
    comparison: Comparison
    notes: tuple[str, ...]
    """How the runs were laid side by side."""

    def to_json(self) -> dict[str, Any]:
        """The comparison, and what `gptjax eval` says of the text under each run."""
        a, b = ({"name": reader.name, **reader.summary} for reader in self.readers)
        return {"a": a, "b": b, "notes": self.notes, **self.comparison.to_json()}


class _Laid(NamedTuple):
    units: Units
    unit_2N: tuple[np.ndarray, np.ndarray]
    last_2U: tuple[np.ndarray, np.ndarray]
    """Each run's last token of every unit."""
    types_U: np.ndarray
    notes: tuple[str, ...]


def compare(folders: tuple[Path, Path], data: str, stride: int | None, seed: int, cache: Path, say: Say) -> Compared:
    """B against A on all of `data`: token by token where they share a tokenizer, else word by word.

    Each reads the text as it was judged, or both in windows `stride` tokens apart. Raises `ConfigError` for a model
    that gives no left-to-right likelihood and for a seed that is none, `DataError` where a tokenizer cannot be laid
    onto the words.
    """
    if not 0 <= seed < SEEDS:
        raise ConfigError(f"seed={seed} is not in [0, 2**32)")
    a, b = (scored.read(folder, data, stride, cache, say) for folder in folders)
    names = _names(folders)
    documents = _documents(data)
    same = a.tokenizer.hash == b.tokenizer.hash
    windows = _unlike_windows((a, b), names)
    laid = _by_token(a, b) if same else _by_word((a, b), names, [text for _, text in documents])
    labels: dict[str, Labels] = {"kind": differences.by_kind(laid.units)}
    of_type, unknown = _frequencies((a, b), folders, names, laid, cache, say)
    labels |= of_type
    labels |= _distances((a, b), names, laid.last_2U)
    sources = [source for source, _ in documents]
    if len(set(sources)) > 1:
        labels["source"] = differences.by_document(laid.units.document_U, sources)
    readers = tuple(
        Reader(name, read.pieces(), read.bits(), unit_N, read.summary)
        for name, read, unit_N in zip(names, (a, b), laid.unit_2N, strict=True)
    )
    return Compared(
        (readers[0], readers[1]), differences.compare(laid.units, labels, seed), laid.notes + windows + unknown
    )


def _names(folders: tuple[Path, Path]) -> tuple[str, str]:
    """The folders' own names, or their whole paths where those are the same."""
    a, b = (folder.resolve() for folder in folders)
    return (a.name, b.name) if a.name != b.name else (str(folders[0]), str(folders[1]))


def _unlike_windows(reads: tuple[Read, Read], names: tuple[str, str]) -> tuple[str, ...]:
    """A note where one run's windows leave more of its context before a token than the other's do."""
    how = [(read.summary["stride"], read.summary["context"]) for read in reads if "stride" in read.summary]
    if len(how) < 2 or len({stride / context for stride, context in how}) == 1:
        return ()
    said = " and ".join(f"{name}'s {stride} of {context}" for name, (stride, context) in zip(names, how, strict=True))
    return (f"windows start {said} tokens apart, as in training: part of the difference is theirs; --stride sets both",)


def _documents(data: str) -> list[tuple[str, str]]:
    """(file, text) of every document, as the token store has them."""
    found: list[tuple[str, list[str]]] = []
    for piece in corpora.pieces(data):
        if piece.starts:
            found.append((re.sub(r"(:| row )\d+$", "", piece.origin), []))
        found[-1][1].append(piece.text)
    return [(file, "".join(parts)) for file, parts in found]


def _by_token(a: Read, b: Read) -> _Laid:
    """Units are the tokens, but for those that either run is given and does not predict."""
    tokens_N = np.asarray(a.split.tokens)
    counts_N = np.ones(len(tokens_N), bool)
    counts_N[a.given] = counts_N[b.given] = False
    kept = np.flatnonzero(counts_N)
    document_N = np.searchsorted(a.split.starts, np.arange(len(tokens_N)), side="right") - 1
    shown = _text_pieces(a)
    nats_2U = np.stack([a.nats_N[kept], b.nats_N[kept]]).astype(np.float64)
    units = Units("token", [shown[i] for i in kept], nats_2U, document_N[kept], a.split.bytes)
    unit_N = np.where(counts_N, np.cumsum(counts_N) - 1, -1)
    return _Laid(units, (unit_N, unit_N), (kept, kept), tokens_N[kept], ("one tokenizer: compared token by token",))


def _by_word(reads: tuple[Read, Read], names: tuple[str, str], texts: Sequence[str]) -> _Laid:
    """Units are the words of the text."""
    of_document = [words.words(text) for text in texts]
    first_D = np.concatenate([[0], np.cumsum([len(found) for found in of_document])])
    word_2N = [_words_of(read, name, of_document, first_D) for read, name in zip(reads, names, strict=True)]
    # The empty word at a document's end is none where no run has a token there.
    used, unit_M = np.unique(np.concatenate(word_2N), return_inverse=True)
    unit_2N = unit_M[: len(word_2N[0])], unit_M[len(word_2N[0]) :]
    spelled = [word for found in of_document for word in found]
    pieces = [spelled[i] for i in used]
    nats_2U = np.stack(
        [np.bincount(u, weights=r.nats_N, minlength=len(used)) for u, r in zip(unit_2N, reads, strict=True)]
    )
    document_U = np.searchsorted(first_D, used, side="right") - 1
    units = Units("word", pieces, nats_2U, document_U, reads[0].split.bytes)
    last_2U = [np.maximum(np.searchsorted(u, np.arange(len(used)), side="right") - 1, 0) for u in unit_2N]
    note = (
        "two tokenizers: compared word by word of the text (what stands between white space, with the white space "
        "before it), each word at the sum of the nats of the tokens that end in it; a line's end that one tokenizer "
        "joins to the word before it moves its cost between neighbours, not in the sum"
    )
    return _Laid(units, unit_2N, (last_2U[0], last_2U[1]), np.array([w.strip() for w in pieces]), (note,))


def _words_of(read: Read, name: str, of_document: Sequence[Sequence[str]], first_D: np.ndarray) -> np.ndarray:
    shown, starts_D = _text_pieces(read), np.asarray(read.split.starts)
    if len(starts_D) != len(first_D):
        raise DataError(f"{name}: the text has changed while it was read; compare again")
    found = [
        words.word_of(shown[starts_D[d] : starts_D[d + 1]], of_document[d], name) + first_D[d]
        for d in range(len(of_document))
    ]
    return np.concatenate(found)


def _text_pieces(read: Read) -> list[str]:
    """What each token adds to the text: nothing for beginnings and ends of documents."""
    ends = (read.tokenizer.bos_id, read.tokenizer.eos_id)
    ids = np.asarray(read.split.tokens).tolist()
    return ["" if id in ends else piece for id, piece in zip(ids, read.pieces(), strict=True)]


def _frequencies(
    reads: tuple[Read, Read], folders: tuple[Path, Path], names: tuple[str, str], laid: _Laid, cache: Path, say: Say
) -> tuple[dict[str, Labels], tuple[str, ...]]:
    """By how often a unit occurs in what each run was trained on, once where it is the same; and whose is not known.

    Under one tokenizer it is the same where its tokens are, under two where its files are. Where neither is known, by
    how often a unit occurs in the judged text.
    """
    unit, types_U, found = laid.units.kind, laid.types_U, {}
    texts: dict[Hashable, tuple[Training, list[str]]] = {}
    notes: list[str] = []
    for read, folder, name in zip(reads, folders, names, strict=True):
        try:
            text = frequency.training(folder, read.tokenizer, cache)
        except frequency.Unknown as reason:
            notes.append(f"what {name} was trained on is not known: {reason}")
        else:
            texts.setdefault(text.sums if unit == "token" else text.key, (text, []))[1].append(name)
    for text, (name, *other) in texts.values():
        say(f"counting the {unit}s of what {name} was trained on")
        try:
            counts_U = text.of_tokens(types_U) if unit == "token" else text.of_words(types_U.tolist())
        except (DataError, OSError) as error:
            notes.append(f"what {name} was trained on is not known: {error}")
            continue
        title, who = ("", "both runs were") if other else (f" of {name}", f"{name} was")
        about = differences.by_frequency(counts_U, unit, f"the text that {who} trained on")
        found[f"training frequency{title}"] = about
    if not found:
        found["frequency"] = differences.by_frequency(differences.repeats(types_U), unit, "this text")
    return found, tuple(notes)


def _distances(
    reads: tuple[Read, Read], names: tuple[str, str], last_2U: tuple[np.ndarray, np.ndarray]
) -> dict[str, Labels]:
    """By how much each run had read; once where it is the same for both, none for a run that reads without windows."""
    found = [
        None if read.before_N is None else read.before_N[last_U] for read, last_U in zip(reads, last_2U, strict=True)
    ]
    if found[0] is not None and found[1] is not None and np.array_equal(found[0], found[1]):
        return {"tokens read": differences.by_distance(found[0])}
    return {
        f"tokens read by {name}": differences.by_distance(before_U)
        for name, before_U in zip(names, found, strict=True)
        if before_U is not None
    }
