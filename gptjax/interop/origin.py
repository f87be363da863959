"""What a verb is given to work on: a run folder, one of its checkpoints, or a Hugging Face folder taken for a run."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from jax.sharding import Mesh

from gptjax import config, trained
from gptjax.config import Run
from gptjax.data.shards import sha256
from gptjax.data.tokenizer import Tokenizer
from gptjax.interop import adopt
from gptjax.interop import folder as folders
from gptjax.train import checkpoint
from gptjax.trained import Trained


def load(folder: Path, say: Callable[[str], None], mesh: Mesh | None = None, flag: str = "RUN") -> Trained:
    """`trained.load` of a run or checkpoint, `adopt.load` of a Hugging Face folder; raises what they raise."""
    return adopt.load(folder, say, mesh) if foreign(folder) else trained.load(folder, say, mesh, flag)


def recall(folder: Path, flag: str = "RUN") -> tuple[Run, Tokenizer, Path]:
    """(configuration, tokenizer, folder) without the parameters; `flag` names the argument in errors."""
    if not foreign(folder):
        return trained.recall(folder, flag)
    found = adopt.stands_for(folder)
    return found.run, found.tokenizer, folder


def sums(found: Trained) -> str:
    """SHA-256 (hex) of the parameters as they lie on disk: of a checkpoint's sums, or of those of a folder's files."""
    if not foreign(found.folder):
        return sha256(found.folder / "checkpoints" / str(found.step) / checkpoint.SUMS)
    weights = folders.identity(found.folder)["sha256"]
    return hashlib.sha256(json.dumps(weights, sort_keys=True).encode()).hexdigest()


def at_step(folder: Path, step: int, flag: str) -> Path:
    """Where the parameters of a step lie: a run's checkpoint, or a Hugging Face folder itself, which has but one."""
    return folder if foreign(folder) else trained.recall(folder, flag)[2] / "checkpoints" / str(step)


def foreign(folder: Path) -> bool:
    """Whether a folder is one of Hugging Face's, and no run."""
    return config.foreign(folder / folders.CONFIG)
