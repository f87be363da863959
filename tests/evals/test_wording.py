"""Templates say what they cannot fill in, and the template alone decides about spaces."""

import pytest

from gptjax.config import ConfigError
from gptjax.data.errors import DataError
from gptjax.evals import wording

RECORD = ("f.jsonl:3", {"sentence": " a film \n", "question": {"stem": "Why?"}, "number": 2, "many": ["x"]})


def test_fields_lose_the_spaces_around_them_and_may_be_nested():
    assert wording.worded("{sentence} very", RECORD) == "a film very"
    assert wording.worded("Question: {question[stem]}\n{number} {many[0]} {{}}", RECORD) == "Question: Why?\n2 x {}"


@pytest.mark.parametrize(
    "template",
    ["{sentance}", "{question[stam]}", "{many[3]}", "{question}", "{many}", "{question.stem}", "{sentence:d}"],
)
def test_a_field_that_is_not_there_or_no_text_names_line_and_fields(template):
    with pytest.raises(DataError, match=r"^f\.jsonl:3: .*fields are sentence, question, number, many$"):
        wording.worded(template, RECORD)


@pytest.mark.parametrize("template", ["{sentence", "sentence}", "{}"])
def test_what_is_no_template_is_refused_when_it_is_written(template):
    with pytest.raises(ConfigError, match="prompt="):
        wording.check("prompt", template)
