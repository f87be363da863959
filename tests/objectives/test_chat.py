"""Claims about chat templates: answers are found in whatever a template writes, and it can do no harm."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tokenizers as library

from gptjax.config import ConfigError, Corpus, Data, from_json, to_json
from gptjax.data.errors import DataError
from gptjax.data.tokenizer import Tokenizer
from gptjax.data.tokenizers import Bytes, TokenizerFile
from gptjax.objectives.chat import Piece, compiled, pieces
from gptjax.objectives.sft import SFT, tokenized

TURNS = [
    ("system", "Be brief."),
    ("user", "Two and two?"),
    ("assistant", "Four."),
    ("user", "Sure?"),
    ("assistant", "Yes."),
]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ENDED = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}{{ ' ' + m.content + eos_token }}"
    "{% elif m.role == 'user' %}[INST] {{ m.content }} [/INST]{% endif %}{% endfor %}"
)


def asked(question):
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


def test_answers_are_what_the_assistants_turns_add():
    assert pieces(CHATML, TURNS, "here") == [
        Piece(f"<|im_start|>system\nBe brief.<|im_end|>\n{asked('Two and two?')}", False, True),
        Piece("Four.<|im_end|>\n", True, True),
        Piece(asked("Sure?"), False, True),
        Piece("Yes.<|im_end|>\n", True, True),
    ]


def chat_tokenizer(folder):
    """Bytes in the library's spelling, and two special tokens of chats, the second of which ends a text."""
    alphabet = {c: n for n, c in enumerate(sorted(library.pre_tokenizers.ByteLevel.alphabet()))}
    made = library.Tokenizer(library.models.BPE(vocab=alphabet, merges=[]))
    made.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = library.decoders.ByteLevel()
    made.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    made.save(str(folder / "tokenizer.json"))
    return TokenizerFile(path=str(folder / "tokenizer.json"), eos_token="<|im_end|>").build(lambda: iter(()))


def test_what_a_template_writes_for_tokens_becomes_them_and_what_is_said_stays_text(tmp_path):
    tokenizer = chat_tokenizer(tmp_path)
    said = [("user", "hi <|im_end|>"), ("assistant", "No <|im_start|>")]
    record = {"messages": [{"role": role, "content": content} for role, content in said]}
    (tmp_path / "chats.jsonl").write_text(json.dumps(record) + "\n")
    data = Data(corpora=(Corpus(source=str(tmp_path / "chats.jsonl")),), validation=str(tmp_path / "chats.jsonl"))
    rows = SFT(template=CHATML).sources(data, tokenizer, 80, 0, tmp_path).train[0].take(np.array([0]), 0)
    start, end = tokenizer.specials["<|im_start|>"], tokenizer.specials["<|im_end|>"]
    assert end == tokenizer.eos_id
    encode = tokenizer.encode
    prompt = [start, *encode("user\nhi <|im_end|>"), end, *encode("\n"), start, *encode("assistant\n")]
    answer = [*encode("No <|im_start|>"), end]
    count = len(prompt) + len(answer)
    assert rows.tokens[0, :count].tolist() == [*prompt, *answer]
    assert rows.weights[0, :count].tolist() == [0] * len(prompt) + [1] * len(answer)


def test_a_chat_of_special_tokens_is_tokenized_as_the_library_does(tmp_path):
    tokenizer = chat_tokenizer(tmp_path)
    found = pieces(CHATML, TURNS, "here", tuple(tokenizer.specials), "<|im_end|>")
    (tokens,), _ = tokenized([found], tokenizer)
    text = compiled(CHATML).render(messages=[{"role": role, "content": content} for role, content in TURNS])
    ids = library.Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(text).ids
    assert tokens.tolist() == ids[:-1]  # but for the end of a line behind the last answer


FILTERED = (
    "{% for m in messages %}<|im_start|>{{ m.role|upper }}{{ m.content|tojson }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>ASSISTANT{% endif %}"
)


@pytest.mark.parametrize("template", [CHATML, FILTERED], ids=["plain", "filters"])
def test_nothing_that_is_said_ends_a_turn_or_leaves_a_mark(template, tmp_path):
    tokenizer = chat_tokenizer(tmp_path)
    turns = [("user<|im_end|>", "<<|im_end|>|im_end|> <|im_start|><|im_start|>"), ("assistant", "a <|im_end|> b")]
    found = pieces(template, turns, "here", tuple(tokenizer.specials), tokenizer.eos_text)
    (tokens,), _ = tokenized([found], tokenizer)
    assert (tokens == tokenizer.specials["<|im_start|>"]).sum() == 2
    assert (tokens == tokenizer.eos_id).sum() == 2
    text = tokenizer.decode(tokens)
    assert "\ufdd0" not in text
    assert "\ufdd1" not in text
    assert "<|im_end|>|im_end|>" in text


def test_a_special_token_of_one_character_is_not_written_by_what_is_said():
    template = "{% for m in messages %}§{{ m.content }}##{% endfor %}{% if add_generation_prompt %}§{% endif %}"
    found = pieces(template, [("user", "§ ### x"), ("assistant", "ok")], "here", ("§", "##"), "##")
    assert [piece.parts(("§", "##")) for piece in found] == [["", "§", "§ ### x", "\ufdd0", "", "§", ""], ["ok"]]


@pytest.mark.parametrize("mark", ["\ufdd0", "\ufdd1"])
def test_a_chat_with_the_marks_in_it_is_refused(mark):
    with pytest.raises(DataError, match=r"file:3: the chat holds U\+FDD0 or U\+FDD1"):
        pieces(CHATML, [("user", f"a{mark}"), ("assistant", "b")], "file:3")


def test_the_text_of_examples_is_without_what_stands_for_tokens(tmp_path):
    (tmp_path / "chats.jsonl").write_text(json.dumps({"messages": [{"role": "assistant", "content": "Four."}]}) + "\n")
    data = Data(corpora=(Corpus(source=str(tmp_path / "chats.jsonl")),), validation_fraction=0.0)
    ended = "{% for m in messages %}{{ m.content + eos_token }}!{% endfor %}"
    assert list(SFT(template=ended).texts(data, ("train",))) == ["Four."]


def test_a_beginning_of_text_that_a_template_spells_out_stands_once(tmp_path):
    tokenizer = chat_tokenizer(tmp_path)
    tokenizer = Tokenizer(replace(tokenizer.codec, bos=tokenizer.specials["<|im_start|>"]), True, True, 1)
    (tokens,), (weights,) = tokenized([pieces(CHATML, TURNS[1:3], "here", tuple(tokenizer.specials))], tokenizer)
    assert tokens[0] == tokenizer.bos_id != tokens[1]
    assert len(tokens) == len(weights)


def test_a_prompt_may_be_written_as_a_template_writes_it(tmp_path):
    tokenizer = chat_tokenizer(tmp_path)
    text = "<|im_start|>user\nhi<|im_end|>\n"
    ids = library.Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(text).ids
    assert tokenizer.encode_written(text).tolist() == ids
    assert tokenizer.encode(text).tolist() != ids
    assert tokenizer.encode_written("plain").tolist() == tokenizer.encode("plain").tolist()


def test_the_templates_end_of_text_is_the_one_behind_every_answer():
    found = pieces(ENDED, TURNS, "here")
    assert [piece.text for piece in found] == ["[INST] Two and two? [/INST]", " Four.", "[INST] Sure? [/INST]", " Yes."]
    tokenizer = Bytes().build(lambda: iter(()))
    (tokens,), (weights,) = tokenized([found], tokenizer)
    assert (tokens == tokenizer.eos_id).sum() == 2
    assert weights.sum() == len(" Four.") + len(" Yes.") + 2


def test_a_record_of_any_form_goes_through_the_template():
    config = SFT(template=ENDED)
    assert from_json(json.loads(json.dumps(to_json(config)))) == config
    [chat] = config.pieces({"instruction": "Add.", "input": "2 and 2", "output": "4"}, "here")
    assert [piece.text for piece in chat] == ["[INST] Add.\n\n2 and 2 [/INST]", " 4"]
    [plain] = config.pieces({"prompt": "a", "completion": "b"}, "here")
    assert [piece.text for piece in plain] == ["a", "b"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('roles must alternate') }}", "file:3: the chat template fails: roles must alternate"),
        ("{{ messages[99].content.x }}", "file:3: the chat template fails"),
        ("{{ 1 // 0 }}", "file:3: the chat template fails: integer division"),
        ("{% for m in messages %}{{ m.content }}{% endfor %}{{ messages|length }}", "writes turn 3 otherwise"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "the chat template fails: access to attribute"),
        ("{{ messages.append(1) }}", "the chat template fails: access to attribute 'append' of 'list'"),
        ("{% for i in range(10000000000) %}x{% endfor %}", "the chat template fails: Range too big"),
    ],
)
def test_a_template_that_fails_or_would_do_harm_is_refused_with_its_line(template, message):
    with pytest.raises(DataError, match=message):
        pieces(template, TURNS, "file:3")


def test_templates_that_transformers_takes_are_taken():
    loose = "{% for m in messages %}{% if not m.tool_calls %}{{ m.content | tojson }}{% endif %}{% endfor %}"
    found = pieces(loose, [("user", "a<b> 'é'"), ("assistant", "c")], "here")
    assert [piece.text for piece in found] == ["\"a<b> 'é'\"", '"c"']


def test_a_chat_without_an_answer_is_refused():
    with pytest.raises(DataError, match="file:3: no turn of the chat is the assistant's"):
        pieces(CHATML, TURNS[:2], "file:3")


def test_what_is_no_template_is_refused_at_birth():
    with pytest.raises(ConfigError, match="template is not one that Jinja reads"):
        SFT(template="{% for m in %}")
