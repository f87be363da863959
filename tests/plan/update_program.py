"""Compiles updates for four TPUs that are not here and prints what came of them as JSON; a process of its own, since
compilers for other machines must not meet those of this one.

python update_program.py SIZES MESHES
JSON: {"layers": 4, "width": 256, "heads": 2, "tokens": 256, "vocabulary": 2048} and
[[data, fsdp, tensor, gather, attention], ...]
"""

import json
import re
import sys
from dataclasses import replace

from targets import small

from gptjax.config import Mesh
from gptjax.data.tokenizers import SentencePiece
from gptjax.models.gpt import GPT
from gptjax.plan import compiled, devices, hlo, machines, vocabulary
from gptjax.train.optim import Muon


def instructions(sizes, mesh):
    """(what it does, its result) of all that one device does in an update with Muon, inside loops too."""
    width, tokens = sizes["width"], sizes["tokens"]
    looped = {"scan": True, "remat": "block"} if mesh[3] == "layer" else {}
    model = GPT(
        layers=sizes["layers"], width=width, heads=sizes["heads"], mlp_width=2 * width, context=tokens,
        bias=mesh[4] != "dense", attention=mesh[4], **looped,
    )  # fmt: skip
    run = replace(
        small(),
        model=model,
        tokenizer=SentencePiece(vocab_size=sizes["vocabulary"]),
        optimizer=Muon(),
        batch_rows=16,
        precision="bfloat16",
        ema_decay=None,
        mesh=Mesh(*mesh[:4]),
    )
    made = compiled.update(run, vocabulary.tokenizer(run, None)[0], devices.of(machines.parse("v5e:2x2")))
    text = made.executable.as_text()
    computations, entry = hlo.read(text)
    parts = (computations[name] for name in (entry, *re.findall(r"body=%?([\w.-]+)", text)))
    return [(found.does, found.result) for part in parts for found in part.instructions.values()]


if __name__ == "__main__":
    devices.prepare(1)
    sizes, meshes = map(json.loads, sys.argv[1:])
    print(json.dumps([instructions(sizes, mesh) for mesh in meshes]))
