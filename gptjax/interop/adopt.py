"""A Hugging Face folder taken for a run, in memory or as a folder, so that what works on a run works on it."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from gptjax import config, trained
from gptjax.config import Data, ModelConfig, ObjectiveConfig, Run
from gptjax.data.errors import DataError
from gptjax.data.tokenizer import Tokenizer
from gptjax.interop import folder as folders
from gptjax.interop import peft, safe, tokens
from gptjax.models import vocabulary
from gptjax.models.bert import Bert
from gptjax.objectives.causal import Causal
from gptjax.objectives.masked import Masked
from gptjax.train import checkpoint, machine, sharding
from gptjax.train.folder import FolderError, opened, write_json
from gptjax.train.optim import AdamW
from gptjax.train.schedules import Cosine
from gptjax.trained import Trained

Say = Callable[[str], None]

MARKS = {"start": "cls_token", "delimiter": "sep_token", "extract": "sep_token", "mask": "mask_token"}
"""What BERT's tokenizers call the tokens that `Masked` has behind the vocabulary."""
NEXT_SENTENCE = "cls.seq_relationship.weight"
"""The tensor of BERT's head for the next sentence."""
USUAL = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}


class Stands(NamedTuple):
    """The run that a folder stands for."""

    run: Run
    tokenizer: Tokenizer
    ids_V: np.ndarray
    """For every id here the row of the folder's vocabulary that it means."""
    notes: tuple[str, ...]


def stands_for(folder: Path) -> Stands:
    """The run that a folder stands for, its parameters unread: one without a text of its own.

    Raises what `folder.described` and `tokens.read` raise.
    """
    described, tokenizer = folders.described(folder), tokens.read(folder)
    objective = _objective(folder, described.model)
    ids_V, notes = rows(folder, described.vocab_size, tokenizer, objective.specials())
    run = Run(
        model=described.model,
        tokenizer=tokens.FolderTokenizer(
            folder=str(folder.resolve()),
            bos=tokenizer.bos,
            eos=tokenizer.eos,
            pad_vocab_multiple=tokenizer.pad_vocab_multiple,
        ),
        objective=objective,
        optimizer=AdamW(),
        schedule=Cosine(),
        data=Data(validation_fraction=0.0),
    )
    return Stands(run, tokenizer, ids_V, notes)


def load(folder: Path, say: Say, mesh: Mesh | None = None, adapter: Path | None = None) -> Trained:
    """The folder as the checkpoint of step 0 of the run that it stands for; nothing is written.

    A folder of PEFT's adapters is put into its matrices. Raises what `folder.read`, `tokens.read` and `peft.put` raise.
    """
    found, read = stands_for(folder), folders.read(folder)
    if adapter is not None:
        read = read._replace(params=peft.put(adapter, folders.described(folder), read.params))
    for note in (*read.notes, *found.notes):
        say(note)
    padding = found.tokenizer.padded(len(found.ids_V)) - len(found.ids_V)
    params = vocabulary.rearranged(read.params, np.pad(found.ids_V, (0, padding), constant_values=-1))
    mesh = mesh or sharding.make_mesh(config.Mesh(data=1), jax.local_devices()[:1])
    model, objective = trained.build(found.run, found.tokenizer, sharding.place(mesh))
    held = {"model": params}
    placed = jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), held, sharding.abstract_params(held, mesh))
    return Trained(found.run, found.tokenizer, model, objective, placed, 0, folder)


def adopt(folder: Path, out: Path, say: Say, adapter: Path | None = None) -> Run:
    """Make `out` a run folder with the folder's model, tokenizer and parameters as its checkpoint of step 0.

    The run has no text of its own: judge it with `--data`, or start another from it with `--init`. Raises what `load`
    raises, and `FolderError` where `out` holds something else.
    """
    found = load(folder, say, adapter=adapter)
    parts = {"import": folder} | ({} if adapter is None else {"adapter": adapter})
    _write(found, {name: folders.identity(part) for name, part in parts.items()}, out)
    return found.run


def _objective(folder: Path, model: ModelConfig) -> ObjectiveConfig:
    """What the model was trained for; without a head for the next sentence it is not asked about any."""
    if not isinstance(model, Bert):
        return Causal()
    with safe.opened(folder) as weights:
        asked = NEXT_SENTENCE in weights.names and bool(np.any(weights.read(NEXT_SENTENCE)))
    return Masked(next_sentence_weight=1.0 if asked else 0.0)


def rows(
    folder: Path, size: int, tokenizer: Tokenizer, specials: tuple[str, ...]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """(ids_V, notes): for every id here the row of a vocabulary of `size` that it means.

    The tokenizer's own ids are their rows. An objective's specials follow them; where the file has no rows of theirs,
    they mean what the tokenizer's own special tokens do. Raises `DataError` where ids have no rows.
    """
    words = tokenizer.vocab_size
    own = (folder / tokens.OWN).is_dir()
    if words + (len(specials) if own else 0) > size:
        raise DataError(f"{folder}: its tokenizer has {words:,} ids, and config.json names vocab_size={size:,}")
    if own or not specials:
        ids_V = np.arange(words + len(specials))
        used, notes = len(ids_V), []
    else:
        kept = [tokens.special_id(folder, tokenizer, MARKS[name], USUAL[MARKS[name]]) for name in specials]
        ids_V, used = np.array([*range(words), *kept]), words
        said = ", ".join(f"{name}: {USUAL[MARKS[name]]}" for name in specials)
        notes = [f"the objective's own tokens begin as the tokenizer's ({said})"]
    if used < size:
        notes.append(f"the last {size - used:,} of {size:,} rows of the vocabulary stand for no token and are left out")
    return ids_V, tuple(notes)


def _write(found: Trained, origins: dict[str, dict[str, Any]], out: Path) -> None:
    with opened(out, found.run):
        if checkpoint.steps(out / "checkpoints"):
            raise FolderError(f"--out {out}: holds this import already; name another folder, or use it")
        config.save(found.run, out / "config.json")
        found.tokenizer.save(out / "tokenizer")
        write_json(out / "environment.json", {"starts": [machine.environment()]})
        for name, identity in origins.items():
            write_json(out / f"{name}.json", identity)
        with closing(checkpoint.Writer(out / "checkpoints", 1, None)) as writer:
            writer.save(0, {"params": found.params}, {"metrics": {}, "judged_step": -1})
