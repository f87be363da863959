import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from gptjax.config import ConfigError, Corpus, Data
from gptjax.data.errors import DataError
from gptjax.data.tokenizers import Bytes
from gptjax.models.encoder_decoder_rnn import RecurrentTranslator
from gptjax.models.recurrent import Recurrent
from gptjax.objectives.causal import Causal
from gptjax.objectives.masked import Masked
from gptjax.objectives.sft import SFT, Piece, tokenized
from gptjax.objectives.tasks import Classification
from gptjax.objectives.word2vec import Word2Vec

CHAT = [
    {"role": "user", "content": "Two and two?"},
    {"role": "assistant", "content": "Four."},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": "Yes."},
]


def written(folder, records, name="train.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return Data(corpora=(Corpus(str(path)),), validation_fraction=0.0)


def answers(conversation):
    return [piece.text for piece in conversation if piece.answer]


def spelled(conversation):
    return "".join(piece.text for piece in conversation)


def test_a_prompt_and_its_completion_are_taken_as_they_are():
    (example,) = SFT().pieces({"prompt": "2+2=", "completion": "4"}, "f:1")
    assert example == [Piece("2+2=", False), Piece("4", True)]


def test_every_turn_of_the_assistant_is_an_answer_and_no_other_turn():
    (example,) = SFT().pieces({"messages": CHAT}, "f:1")
    assert answers(example) == ["Four.", "Yes."]
    assert spelled(example) == "user:\nTwo and two?\n\nassistant:\nFour.user:\nSure?\n\nassistant:\nYes."


def test_an_instruction_is_a_chat_of_two_turns():
    record = {"instruction": "Translate.", "input": "Hund", "output": "dog"}
    (example,) = SFT().pieces(record, "f:1")
    assert spelled(example) == "user:\nTranslate.\n\nHund\n\nassistant:\ndog"
    assert answers(example) == ["dog"]
    (without,) = SFT().pieces(record | {"input": ""}, "f:1")
    assert spelled(without) == "user:\nTranslate.\n\nassistant:\ndog"


def test_several_instances_of_an_instruction_are_as_many_examples():
    instances = [{"input": "Hund", "output": "dog"}, {"input": "Katze", "output": "cat"}]
    found = SFT().pieces({"instruction": "Translate.", "instances": instances}, "f:1")
    assert [answers(example) for example in found] == [["dog"], ["cat"]]


def test_braces_in_the_text_are_text():
    sft = SFT(turn_start="<{role}>")
    (example,) = sft.pieces({"messages": [{"role": "user", "content": "{role} {x}"}, CHAT[1]]}, "f:1")
    assert spelled(example).startswith("<user>{role} {x}")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"text": "x"}, 'f:7: none of "messages", "prompt" and "instruction" is there; fields are text'),
        ({"prompt": "x", "answer": "y"}, r"f:7.*completion.*fields are prompt, answer"),
        ({"prompt": "x", "completion": 3}, 'f:7: field "completion" is 3, not a string'),
        ({"messages": "hello"}, 'f:7: field "messages" is "hello", not a list of objects'),
        ({"messages": []}, r'f:7: field "messages" is \[\], not a list of objects, one at least'),
        ({"instruction": "x", "instances": []}, 'f:7: field "instances" is'),
        ({"messages": [{"role": "user"}]}, r"f:7.*content.*fields are role"),
        ({"instruction": "x"}, r"f:7.*output.*fields are instruction"),
    ],
)
def test_an_unusable_record_is_named_with_its_line(record, message):
    with pytest.raises(DataError, match=message):
        SFT().pieces(record, "f:7")


def test_only_answers_and_the_end_after_each_have_weight():
    tokenizer = Bytes(bos=True, eos=True).build(lambda: iter(()))
    conversation = [Piece("Q", False), Piece("AB", True), Piece("R", False), Piece("", True)]
    (ids,), (weights,) = tokenized([conversation], tokenizer)
    bos, eos = tokenizer.bos_id, tokenizer.eos_id
    assert ids.tolist() == [bos, *b"Q", *b"AB", eos, *b"R", eos]
    assert weights.tolist() == [0, 0, 1, 1, 1, 0, 1]


def test_masked_prompt_adds_no_loss(tiny, tokenizer, tmp_path, gradient, nats_alone):
    """Two packed examples cost what their answers cost when each is read alone, token by token."""
    texts = [("2+2=", "4"), ("say hello: ", "hi!")]
    data = written(tmp_path, [{"prompt": p, "completion": c} for p, c in texts])
    model = tiny(tokenizer.vocab_size)
    objective = SFT().build(model, tokenizer)
    params = objective.init(jax.random.key(0))
    source = SFT().sources(data, tokenizer, 24, 0, tmp_path).train[0]
    assert source.rows == 1
    total, count, _, _ = gradient(objective, params, objective.batch(source.take(np.array([0]), 0)))
    expected = 0.0
    for prompt, completion in texts:
        ids = np.array([*prompt.encode(), *completion.encode(), tokenizer.eos_id])
        _, nats = nats_alone(params["model"], ids, tokenizer.vocab_size)
        expected += nats[len(prompt) - 1 :].sum()
    assert count == sum(len(completion) + 1 for _, completion in texts)
    np.testing.assert_allclose(total, expected, rtol=1e-5)


def test_whatever_is_left_out_is_counted(tokenizer, tmp_path):
    records = [{"prompt": "short", "completion": "yes"}, {"prompt": "long" * 20, "completion": "no"}]
    records.append({"messages": CHAT[:1]})
    data = written(tmp_path, records)
    skipped = SFT().sources(data, tokenizer, 24, 0, tmp_path)
    assert any("1 of 3 examples left out: more than" in note for note in skipped.notes)
    assert any("1 of 3 examples left out: no token to learn from" in note for note in skipped.notes)
    with pytest.raises(DataError, match="example 2 has 83 tokens"):
        SFT(too_long="refuse").sources(data, tokenizer, 24, 0, tmp_path)


def test_validation_is_held_out_by_hash_or_is_a_file_of_its_own(tokenizer, tmp_path):
    records = [{"prompt": f"{i}?", "completion": f"{i}!"} for i in range(200)]
    data = replace(written(tmp_path, records), validation_fraction=0.25)
    found = SFT().sources(data, tokenizer, 32, 0, tmp_path)
    held_out = texts_of(found.validation, tokenizer)
    assert 30 <= len(held_out) <= 70
    assert held_out.isdisjoint(trained := texts_of(found.train[0], tokenizer))
    assert len(held_out | trained) == 200
    own = written(tmp_path, records[:5], "own.jsonl").corpora[0].source
    apart = SFT().sources(replace(data, validation=own), tokenizer, 32, 0, tmp_path)
    assert len(texts_of(apart.validation, tokenizer)) == 5
    assert len(texts_of(apart.train[0], tokenizer)) == 200
    assert found.identity != apart.identity


def test_a_tokenizer_learns_from_prompts_and_answers(tmp_path):
    data = written(tmp_path, [{"prompt": "2+2=", "completion": "4"}, {"messages": CHAT[:2]}])
    expected = ["2+2=4", "user:\nTwo and two?\n\nassistant:\nFour."]
    assert list(SFT().texts(data, ("train",))) == expected
    assert list(SFT().texts(data, ("validation",))) == []


def texts_of(source, tokenizer):
    rows = source.take(np.arange(source.rows), 0)
    return {text for ids in rows.tokens for text in "".join(tokenizer.pieces(ids)).split("!") if "?" in text}


def test_a_tokenizer_without_an_end_is_refused(tmp_path):
    tokenizer = Bytes(eos=False).build(lambda: iter(()))
    with pytest.raises(ConfigError, match=r"tokenizer\.eos is off"):
        SFT().sources(written(tmp_path, [{"prompt": "a", "completion": "b"}]), tokenizer, 16, 0, tmp_path)


def test_published_instruction_sets_are_read_whole(shared, tokenizer, tmp_path):
    dolly, own = shared / "sft/dolly_3k.json", shared / "sft/user_oriented_instructions.jsonl"
    data = Data(corpora=(Corpus(str(dolly)),), validation=str(own))
    found = SFT().sources(data, tokenizer, 16_384, 0, tmp_path)
    assert found.notes == ()
    counted = [
        int(source.take(np.arange(source.rows), 0).weights.sum()) for source in (found.train[0], found.validation)
    ]
    records = json.loads(dolly.read_text()), [json.loads(line) for line in own.read_text().splitlines()]
    expected = [sum(len(record["output"].encode()) + 1 for record in records[0])]
    expected.append(sum(len(i["output"].encode()) + 1 for record in records[1] for i in record["instances"]))
    assert counted == expected


def test_no_example_goes_on_from_another_and_no_translator_is_asked():
    tokenizer = Bytes().build(lambda: iter(()))
    recurrent = Recurrent(layers=1, width=8, embed_width=8).build(258, 258)
    assert Causal().build(recurrent, tokenizer).carried is not None
    assert SFT().build(recurrent, tokenizer).carried is None
    translator = RecurrentTranslator(width=8).build(258, 258)
    for objective in (SFT(), Causal(), Masked(), Classification(), Word2Vec()):
        with pytest.raises(ConfigError, match="turns one text into another"):
            objective.build(translator, tokenizer)
