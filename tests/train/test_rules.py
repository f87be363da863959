"""Claims about the table of rules: whatever the family, nothing large is copied to every device."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh

from gptjax.data.tokenizers import Bytes
from gptjax.models.bert import Bert
from gptjax.models.convolution import Convolution
from gptjax.models.encoder_decoder_rnn import RecurrentTranslator
from gptjax.models.encoder_decoder_transformer import TransformerTranslator
from gptjax.models.feedforward import FeedForward
from gptjax.models.gpt import GPT
from gptjax.models.recurrent import Recurrent
from gptjax.models.recurrent_encoder import BidirectionalRecurrent
from gptjax.models.vectors import Vectors
from gptjax.objectives.bag import Bag
from gptjax.objectives.causal import Causal
from gptjax.objectives.masked import Masked
from gptjax.objectives.seq2seq import Seq2Seq
from gptjax.objectives.tasks import Classification
from gptjax.objectives.word2vec import Word2Vec
from gptjax.train import sharding
from gptjax.train.state import path_of

PROGRAM = Path(__file__).with_name("families_program.py")
WIDTH = 32
TOKENIZER = Bytes(bos=True, eos=True).build(lambda: iter(()))
FAMILIES = {
    "gpt": (GPT(width=WIDTH, heads=2, mlp_width=64, context=16, layers=2, tied=False), Causal()),
    "bert": (Bert(width=WIDTH, heads=2, mlp_width=64, context=16, layers=2), Masked()),
    "transformer": (TransformerTranslator(width=WIDTH, heads=2, mlp_width=64, layers=2), Seq2Seq()),
    "additive": (RecurrentTranslator(width=WIDTH), Seq2Seq()),
    "no_attention": (RecurrentTranslator(width=WIDTH, attention="none"), Seq2Seq()),
    "recurrent": (Recurrent(width=WIDTH, embed_width=WIDTH, layers=2), Causal()),
    "both_ways": (BidirectionalRecurrent(width=WIDTH, embed_width=WIDTH, layers=2), Classification(lm_weight=0.0)),
    "feedforward": (FeedForward(width=WIDTH, embed_width=WIDTH, window=4, layers=2), Causal()),
    "convolution": (Convolution(width=WIDTH, layers=2), Causal()),
    "word2vec": (Vectors(width=WIDTH), Word2Vec()),
    "bag": (Vectors(width=WIDTH), Bag(hidden="relu")),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_matrix_of_every_family_is_split_over_fsdp(name):
    config, objective = FAMILIES[name]
    size = TOKENIZER.vocab_size + len(objective.specials())
    init = objective.build(config.build(size, size), TOKENIZER).init
    laid_out = sharding.abstract_params(jax.eval_shape(init, jax.random.key(0)), AbstractMesh((1, 2, 1), sharding.AXES))
    leaves = [(path_of(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(laid_out)]
    copied = {path: leaf.shape for path, leaf in leaves if leaf.size >= WIDTH**2 and not halved(leaf)}
    assert copied == {}
    assert any(halved(leaf) for _, leaf in leaves)


def halved(leaf):
    """A device holds half of it."""
    return 2 * np.prod(leaf.sharding.shard_shape(leaf.shape)) == leaf.size


def test_cross_attention_and_contexts_learn_the_same_when_they_are_split():
    # Little optimisation: it runs for milliseconds and compiles for seconds.
    flags = {"XLA_FLAGS": "--xla_backend_optimization_level=0", "PYTHONPATH": str(PROGRAM.parents[2])}
    done = subprocess.run(
        [sys.executable, str(PROGRAM)], env=os.environ | flags, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    for found in json.loads(done.stdout).values():
        np.testing.assert_allclose(found["split"], found["one"], rtol=2e-5)
        assert found["one"][0] != found["one"][1]
