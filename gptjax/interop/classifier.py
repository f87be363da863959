"""The classifier of a fine-tuned task as a folder that transformers reads: a linear read-out of a text's last token.

There the read-out has no bias: what a bias adds is added to the last norm's, which only the read-out sees. Padding is
marked by the delimiter's id, which never ends a text. The tokenizer puts the task's marks around a text, or a pair.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tokenizers as library
from tokenizers import processors

from gptjax.config import ConfigError, write_json
from gptjax.interop import folder as folders
from gptjax.interop import layout, safe, shapes, tokens
from gptjax.interop.card import card
from gptjax.models import vocabulary
from gptjax.objectives import task_text
from gptjax.objectives.tasks import Classification, Entailment
from gptjax.trained import Trained
from gptjax.types import Params


def write(found: Trained, folder: Path, say: Callable[[str], None]) -> None:
    """Write a checkpoint of a task as a folder for AutoModelForSequenceClassification; whole, or not at all.

    Raises `ConfigError` for a task that no such class computes, and what `folder.write` raises.
    """
    run, task, size = found.run, found.run.objective, found.model.vocab_size
    if not isinstance(task, Classification | Entailment) or task.pool != "last":
        what = f"{type(task).__name__} with pool={getattr(task, 'pool', None)!r}"
        raise ConfigError(f"--classifier: reads one text's last token (Classification, Entailment), and this is {what}")
    shape = shapes.fitting(run.model)
    if shape.classifier is None:
        raise ConfigError(f"--classifier: no class of transformers reads a {shape.model_type}'s last token")
    fields = shape.write(run.model)
    folders.refuse_present(folder)
    kernel_DC, bias_C = (np.asarray(found.params["head"][name], np.float32) for name in ("kernel", "bias"))
    params = without_bias(vocabulary.rearranged(found.params["model"], np.arange(size)), kernel_DC, bias_C)
    tensors = layout.given(shape, run.model, params)
    tensors.pop("lm_head.weight", None)
    marks = task_text.specials(found.tokenizer)
    contents, note = tokens.files(found.tokenizer, task.specials(), found.model.context)
    say(f"tokenizer: {note}")
    longest = task.longest(found.model.context)
    if isinstance(task, Entailment):
        say(f"training cut each text to {longest} tokens; no tokenizer's settings say so of a pair: cut them first")
        contents |= _marked(contents, found.model.context)
    else:
        contents |= _marked(contents, longest + 2)
    contents["README.md"] = card(found, shape.classifier, note, found.tokenizer.padded(size)).encode()
    labels = {
        "id2label": {str(number): label for number, label in enumerate(task.labels)},
        "label2id": {label: number for number, label in enumerate(task.labels)},
    }
    with folders.fresh(folder) as making:
        safe.write(making, {**tensors, "score.weight": kernel_DC.T})
        found.tokenizer.save(making / tokens.OWN)
        kind = folders.described_as(found, shape, shape.classifier)
        write_json(making / folders.CONFIG, {**kind, **fields, **labels, "pad_token_id": marks.delimiter})
        folders.write_all(making, contents)


def without_bias(model: Params, kernel_DC: np.ndarray, bias_C: np.ndarray) -> Params:
    """A model whose last vectors lead, by the kernel alone, to the scores that they had by kernel and bias.

    The least shift x of the vectors with x W = bias is added to the bias of the norm that they come from. Raises
    `ConfigError` where there is none (an RMSNorm has no bias), or no such shift.
    """
    if not np.any(bias_C):
        return model
    shift_D = np.linalg.lstsq(kernel_DC.T.astype(np.float64), bias_C.astype(np.float64))[0]
    if not np.allclose(shift_D @ kernel_DC, bias_C, rtol=1e-4, atol=1e-6):
        raise ConfigError("--classifier: the head's bias cannot be expressed by its kernel, whose classes are alike")
    if "final_norm" in model and "bias" in (norm := model["final_norm"]):
        bias_D = (norm["bias"] + shift_D).astype(np.float32)
        return {**model, "final_norm": {**norm, "bias": bias_D}}
    if "final_norm" not in model and "bias" in (norm := model["blocks"]["mlp_norm"]):
        bias_LD = np.array(norm["bias"])
        bias_LD[-1] += shift_D
        return {**model, "blocks": {**model["blocks"], "mlp_norm": {**norm, "bias": bias_LD}}}
    raise ConfigError("--classifier: the head has a bias, and neither the class there nor the last norm has one")


def _marked(contents: dict[str, bytes], longest: int) -> dict[str, bytes]:
    """The tokenizer's files, the marks put around what is tokenized, at most `longest` tokens where cutting is asked.

    Nothing where there are none.
    """
    if "tokenizer.json" not in contents:
        return {}
    made = library.Tokenizer.from_str(contents["tokenizer.json"].decode())
    names = [f"<{name}>" for name in task_text.Specials._fields]
    start, delimiter, extract = names
    made.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {extract}",
        pair=f"{start} $A {delimiter} $B {extract}",
        special_tokens=[(name, made.token_to_id(name)) for name in names],
    )
    own = {"pad_token": delimiter, "padding_side": "right", "model_max_length": longest}
    settings = json.loads(contents[tokens.SETTINGS]) | own
    found = {"tokenizer.json": made.to_str(), tokens.SETTINGS: json.dumps(settings, indent=2)}
    return {name: content.encode() for name, content in found.items()}
