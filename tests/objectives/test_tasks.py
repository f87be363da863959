import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from gptjax.config import ConfigError, Corpus, Data, from_json, to_json
from gptjax.data.errors import DataError
from gptjax.objectives.task_text import Specials, specials
from gptjax.objectives.tasks import Classification, Entailment, MultipleChoice, Similarity

COLA = Classification(columns=("source", "label", "mark", "sentence"))
PLAIN = MultipleChoice(context=("q",), choices=("c",))


def take_all(source):
    return source.take(np.arange(source.rows), 0)


def read(config, tokenizer, tmp_path, records, context=64, **data):
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    given = Data(corpora=(Corpus(str(path)),), **{"validation_fraction": 0.0, "split": "document", **data})
    return config.sources(given, tokenizer, context, 0, tmp_path)


def shown(ids, tokenizer):
    marks = {id: f"<{name}>" for name, id in specials(tokenizer)._asdict().items()}
    return "".join(marks.get(int(i)) or tokenizer.decode(np.array([i])) for i in ids)


def shown_ways(batch, row, tokenizer):
    return [shown(ids[:n], tokenizer) for ids, n in zip(batch.tokens[row], batch.lengths[row], strict=True)]


def test_a_classified_text_stands_between_start_and_extract(tokenizer, tmp_path):
    found = read(Classification(), tokenizer, tmp_path, [{"sentence": "fine", "label": 1}])
    batch = take_all(found.train[0])
    assert shown_ways(batch, 0, tokenizer) == ["<start>fine<extract>"]
    assert batch.targets.tolist() == [1]


def test_a_premise_and_its_hypothesis_are_delimited(tokenizer, tmp_path):
    record = {"sentence1": "It rains.", "sentence2": "It is wet.", "label": "not_entailment"}
    batch = take_all(read(Entailment(), tokenizer, tmp_path, [record]).train[0])
    assert shown_ways(batch, 0, tokenizer) == ["<start>It rains.<delimiter>It is wet.<extract>"]
    assert batch.targets.tolist() == [1]


def test_similar_texts_are_read_in_both_orders(tokenizer, tmp_path):
    batch = take_all(
        read(Similarity(), tokenizer, tmp_path, [{"sentence1": "a", "sentence2": "b", "score": "3.8"}]).train[0]
    )
    assert shown_ways(batch, 0, tokenizer) == ["<start>a<delimiter>b<extract>", "<start>b<delimiter>a<extract>"]
    assert batch.targets.dtype == np.float32
    np.testing.assert_allclose(batch.targets, [3.8])


def test_every_choice_is_read_after_the_whole_context(tokenizer, tmp_path):
    config = MultipleChoice(context=("article", "question"), choices=("options",), answer="answer")
    record = {"article": "Birds fly.", "question": "Who?", "options": ["Birds", "Stones", "Fish"], "answer": "C"}
    batch = take_all(read(config, tokenizer, tmp_path, [record]).train[0])
    prefix = "<start>Birds fly. Who?<delimiter>"
    assert shown_ways(batch, 0, tokenizer) == [f"{prefix}{c}<extract>" for c in ("Birds", "Stones", "Fish")]
    assert batch.targets.tolist() == [2]


@pytest.mark.parametrize(
    ("config", "record"),
    [
        (
            MultipleChoice(),
            {"question": {"stem": "q", "choices": [{"text": "x", "label": "1"}, {"text": "y", "label": "2"}]}},
        ),
        (
            MultipleChoice(context=("question",), choices=("choices",)),
            {"question": "q", "choices": {"text": ["x", "y"], "label": ["1", "2"]}},
        ),
        (MultipleChoice(context=("q",), choices=("x", "y"), answers=("1", "2")), {"q": "q", "x": "x", "y": "y"}),
        (MultipleChoice(context=("q",), choices=("ends",), answers=("1", "2")), {"q": "q", "ends": ["x", "y"]}),
    ],
)
def test_choices_may_be_written_in_four_ways(config, record, tokenizer):
    example = config.example(record | {"answerKey": 2}, "f:1")
    assert example.texts == (("q",), ("x",), ("y",))
    assert example.target == 1


@pytest.mark.parametrize(
    ("config", "record", "message"),
    [
        (
            Classification(),
            {"sentence": "x", "label": "2"},
            'f:3: field "label" is "2", which is none of the labels 0, 1',
        ),
        (Classification(), {"text": "x"}, r"f:3.*sentence.*fields are text"),
        (Classification(), {"sentence": None, "label": "1"}, 'f:3: field "sentence" is null, not a string'),
        (
            Similarity(),
            {"sentence1": "x", "sentence2": "y", "score": "5.1"},
            r'f:3: field "score" is "5\.1", not a number from 0\.0 to 5\.0',
        ),
        (Similarity(), {"sentence1": "x", "sentence2": "y", "score": "nan"}, 'f:3.*"nan", not a number'),
        (MultipleChoice(), {"question": "x"}, r'f:3: field "question\.stem" is missing; "x" has no fields'),
        (
            PLAIN,
            {"q": "x", "c": ["a", "b"], "answerKey": "C"},
            'f:3: field "answerKey" is "C", which is none of the choices A, B',
        ),
        (
            PLAIN,
            {"q": "x", "c": ["a"], "answerKey": "A"},
            r'f:3: field "c" is \["a"\], not two labelled',
        ),
        (
            PLAIN,
            {"q": "x", "c": "abc", "answerKey": "A"},
            'f:3: field "c" is "abc", not two labelled',
        ),
    ],
)
def test_an_unusable_record_is_named_with_its_line(config, record, message):
    with pytest.raises(DataError, match=message):
        config.example(record, "f:3")


def test_long_texts_are_cut_to_half_the_context_less_two_and_counted(tokenizer, tmp_path):
    record = {"sentence1": "x" * 40, "sentence2": "y" * 40, "label": "entailment"}
    found = read(Entailment(), tokenizer, tmp_path, [record], context=32)
    batch = take_all(found.train[0])
    assert batch.lengths.tolist() == [[14 + 14 + 3]]
    assert batch.tokens.shape == (1, 1, 32)
    assert found.notes == (f"{tmp_path / 'train.jsonl'}: 1 of 1 examples cut to 14 tokens a text, 52 dropped",)
    shorter = read(replace(Entailment(), segment_tokens=5), tokenizer, tmp_path, [record], context=32)
    assert take_all(shorter.train[0]).tokens.shape == (1, 1, 16)


def test_a_question_survives_a_long_article(tokenizer, tmp_path):
    config = MultipleChoice(context=("article", "question"), choices=("options",))
    record = {"article": "x" * 99, "question": "Who?", "options": ["a", "b"], "answerKey": "A"}
    batch = take_all(read(config, tokenizer, tmp_path, [record], context=32).train[0])
    assert shown_ways(batch, 0, tokenizer)[0] == f"<start>{'x' * 9} Who?<delimiter>a<extract>"


def test_training_and_held_out_rows_have_one_shape(tokenizer, tmp_path):
    records = [{"q": "q", "c": ["a"] * (2 + i % 3), "answerKey": "A"} for i in range(20)] + [
        {"q": "long" * 5, "c": ["a", "b"], "answerKey": "B"}
    ]
    config = MultipleChoice(context=("q",), choices=("c",))
    found = read(config, tokenizer, tmp_path, records, split="position", validation_fraction=0.1)
    train, held_out = take_all(found.train[0]), take_all(found.validation)
    assert train.tokens.shape == (18, 4, 24)
    assert held_out.tokens.shape == (3, 4, 24)
    assert (train.lengths == 0).sum() == 6 * 2 + 6 * 1


def test_a_context_without_room_and_a_model_without_specials_are_refused(tiny, tokenizer, tmp_path):
    with pytest.raises(ConfigError, match="context=4 leaves no room"):
        read(Classification(), tokenizer, tmp_path, [{"sentence": "x", "label": 1}], context=4)
    with pytest.raises(ConfigError, match="specials included, is"):
        Classification().build(tiny(tokenizer.vocab_size), tokenizer)
    with pytest.raises(ConfigError, match="the first token, which has seen no other"):
        Classification(pool="first").build(tiny(tokenizer.vocab_size + 3), tokenizer)


def test_configs_survive_json():
    for config in (COLA, Entailment(), Similarity(labels=("0", "1")), MultipleChoice(), Classification(lm_weight=0)):
        assert from_json(json.loads(json.dumps(to_json(config)))) == config
    with pytest.raises(ConfigError, match="labels"):
        Classification(labels=("1", "1"))


def test_the_specials_follow_the_vocabulary(tokenizer):
    size = tokenizer.vocab_size
    assert specials(tokenizer) == Specials(start=size, delimiter=size + 1, extract=size + 2)
    assert Classification().specials() == ("start", "delimiter", "extract")


@pytest.mark.parametrize(
    ("config", "name", "train", "dev", "shares"),
    [
        (Classification(), "SST-2", 67_349, 872, (0.4908, 0.5092)),
        (COLA, "CoLA", 8_551, 1_043, (0.3087, 0.6913)),
        (Entailment(), "RTE", 2_490, 277, (0.5271, 0.4729)),
    ],
)
def test_glue_files_are_read_whole_with_their_published_balance(
    config, name, train, dev, shares, shared, tokenizer, tmp_path
):
    folder = shared / "glue" / name
    data = Data(corpora=(Corpus(str(folder / "train.tsv")),), validation=str(folder / "dev.tsv"))
    found = config.sources(data, tokenizer, 8192, 0, tmp_path)
    assert (found.train[0].rows, found.validation.rows) == (train, dev)
    assert found.notes == ()
    targets = found.validation.take(np.arange(dev), 0).targets
    np.testing.assert_allclose(np.bincount(targets) / dev, shares, atol=1e-3)


def test_sts_b_and_arc_are_read_whole(shared, tokenizer, tmp_path):
    sts, arc = shared / "glue/STS-B", shared / "arc"
    data = Data(corpora=(Corpus(str(sts / "train.tsv")),), validation=str(sts / "dev.tsv"))
    found = Similarity().sources(data, tokenizer, 2048, 0, tmp_path)
    assert (found.train[0].rows, found.validation.rows) == (5_749, 1_500)
    data = Data(corpora=(Corpus(str(arc / "ARC-Easy-Dev.jsonl")),), validation=str(arc / "ARC-Challenge-Dev.jsonl"))
    found = MultipleChoice().sources(data, tokenizer, 2048, 0, tmp_path)
    assert (found.train[0].rows, found.validation.rows) == (570, 299)
    jax.tree.map(lambda leaf: len(leaf) == 299 or pytest.fail("no leading B"), take_all(found.validation))


def test_a_folder_has_its_own_validation_file(tokenizer, tmp_path):
    for name, sentences in (("train", "ab"), ("dev", "c"), ("test", "d")):
        rows = "".join(f"{sentence}\t1\n" for sentence in sentences)
        (tmp_path / f"{name}.tsv").write_text(f"sentence\tlabel\n{rows}")
    data = Data(corpora=(Corpus(str(tmp_path)),))
    found = Classification().sources(data, tokenizer, 16, 0, tmp_path)
    assert (found.train[0].rows, found.validation.rows) == (2, 1)
    assert shown_ways(take_all(found.validation), 0, tokenizer) == ["<start>c<extract>"]
    assert list(Classification().texts(data, ("train",))) == ["a", "b"]
    assert list(Classification().texts(data, ("train", "validation"))) == ["a", "b", "c"]
    (tmp_path / "validation.tsv").write_text("sentence\tlabel\n")
    with pytest.raises(DataError, match="there are 2; name the file instead"):
        Classification().sources(data, tokenizer, 16, 0, tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="there are 0"):
        Classification().sources(Data(corpora=(Corpus(str(tmp_path / "empty")),)), tokenizer, 16, 0, tmp_path)


def test_nothing_to_train_or_validate_on_is_refused_with_the_way_out(tokenizer, tmp_path):
    record = [{"sentence": "x", "label": 1}]
    with pytest.raises(DataError, match=r"validation_fraction=0\.001 of the records: no example .* hold out nothing"):
        read(Classification(), tokenizer, tmp_path, record, validation_fraction=0.001)
    with pytest.raises(DataError, match=r"train\.jsonl: no example to train on"):
        read(Classification(), tokenizer, tmp_path, record, validation_fraction=0.9, split="position")
