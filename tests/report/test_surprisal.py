import html
import math
import re

import pytest

from gptjax.report.surprisal import FULL_BITS, to_html, to_page, to_terminal

TEXT = ["a", "<b>", "&", '"', "\n", "é\t  x"]


def alphas(page):
    return [float(value) for value in re.findall(r"rgba\(\d+,\d+,\d+,([\d.]+)\)", page)]


def test_the_text_is_whole_and_no_piece_of_it_is_markup():
    page = to_html(TEXT, [1.0] * len(TEXT))
    inside = "".join(re.findall(r">([^<]*)<", page))
    assert html.unescape(inside).replace("↵", "") == "".join(TEXT)


def test_a_greater_surprise_has_a_deeper_colour_up_to_the_full_one():
    found = alphas(to_html(["x"] * 4, [1.0, 4.0, FULL_BITS, 99.0]))
    assert found[0] < found[1] < found[2] == found[3]
    assert alphas(to_html(["x", "y"], [None, 0.0])) == []


def test_bits_that_are_not_finite_have_the_full_colour():
    assert alphas(to_html(["x", "y"], [math.inf, math.nan])) == alphas(to_html(["x"] * 2, [FULL_BITS] * 2))


def test_every_token_tells_its_bits():
    assert 'title="3.14 bits"' in to_html(["x"], [3.14159])


def test_a_page_is_whole_and_escapes_its_title():
    page = to_page(["x"], [1.0], "<script>")
    assert page.startswith("<!doctype html>")
    assert "<script>" not in page
    assert to_html(["x"], [1.0]) in page


def test_a_terminal_gets_the_same_text_in_colour():
    text = to_terminal(TEXT, [0.0, 12.0, 6.0, None, 1.5, math.inf])
    assert text.plain == "".join(TEXT)
    assert [span.style for span in text.spans] == [
        "black on rgb(255,85,50)",
        "black on rgb(255,160,120)",
        "black on rgb(255,216,172)",
        "black on rgb(255,85,50)",
    ]


def test_pieces_without_their_bits_are_refused():
    for show in (to_html, to_terminal):
        with pytest.raises(ValueError, match="shorter"):
            show(["a", "b"], [1.0])
