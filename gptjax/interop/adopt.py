"""A Hugging Face folder made a run folder, so that everything which works on a run works on it."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from gptjax import config
from gptjax.config import Data, ObjectiveConfig, Run
from gptjax.data.errors import DataError
from gptjax.data.tokenizer import Tokenizer
from gptjax.interop import folder as folders
from gptjax.interop import tokens
from gptjax.models import vocabulary
from gptjax.models.bert import Bert
from gptjax.objectives.causal import Causal
from gptjax.objectives.masked import Masked
from gptjax.train import checkpoint, machine
from gptjax.train.folder import FolderError, opened, write_json
from gptjax.train.optim import AdamW
from gptjax.train.schedules import Cosine
from gptjax.types import Params

Say = Callable[[str], None]

MARKS = {"start": "cls_token", "delimiter": "sep_token", "extract": "sep_token", "mask": "mask_token"}
"""What BERT's tokenizers call the tokens that `Masked` has behind the vocabulary."""
USUAL = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}


def adopt(folder: Path, out: Path, say: Say) -> Run:
    """Make `out` a run folder with the folder's model, tokenizer and parameters as its checkpoint of step 0.

    The run has no text of its own: judge it with `--data`, or start another from it with `--init`. Raises what
    `folder.read` and `tokens.read` raise, and `FolderError` where `out` holds something else.
    """
    read, tokenizer = folders.read(folder), tokens.read(folder)
    objective = _objective(read)
    names = objective.specials()
    ids_V, notes = rows(folder, read.vocab_size, tokenizer, names)
    padded = tokenizer.padded(len(ids_V))
    params = vocabulary.rearranged(read.params, np.pad(ids_V, (0, padded - len(ids_V)), constant_values=-1))
    run = Run(
        model=read.model,
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
    for note in (*read.notes, *notes):
        say(note)
    _write(run, tokenizer, params, folder, out)
    return run


def _objective(read: folders.Read) -> ObjectiveConfig:
    """What the model was trained for; without a head for the next sentence it is not asked about any."""
    if not isinstance(read.model, Bert):
        return Causal()
    return Masked(next_sentence_weight=1.0 if np.any(read.params["next_sentence"]["kernel"]) else 0.0)


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


def _write(run: Run, tokenizer: Tokenizer, params: Params, folder: Path, out: Path) -> None:
    with opened(out, run):
        if checkpoint.steps(out / "checkpoints"):
            raise FolderError(f"--out {out}: holds this import already; name another folder, or use it")
        config.save(run, out / "config.json")
        tokenizer.save(out / "tokenizer")
        write_json(out / "environment.json", {"starts": [machine.environment()]})
        write_json(out / "import.json", folders.identity(folder))
        with closing(checkpoint.Writer(out / "checkpoints", 1, None)) as writer:
            items = {"params": {"model": jax.tree.map(jnp.asarray, params)}}
            writer.save(0, items, {"metrics": {}, "judged_step": -1})
