"""Claims about chat templates: answers are found in whatever a template writes, and it can do no harm."""

import json

import pytest

from gptjax.config import ConfigError, from_json, to_json
from gptjax.data.errors import DataError
from gptjax.data.tokenizers import Bytes
from gptjax.objectives.chat import Piece, pieces
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
        Piece(f"<|im_start|>system\nBe brief.<|im_end|>\n{asked('Two and two?')}", False),
        Piece("Four.<|im_end|>\n", True),
        Piece(asked("Sure?"), False),
        Piece("Yes.<|im_end|>\n", True),
    ]


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
        ("{% for m in messages %}{{ m.content + eos_token }}{% endfor %}", "ends a turn that is no answer"),
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
