"""Claims about the picture of a matrix of weights."""

from xml.etree import ElementTree

import numpy as np
import pytest

from gptjax.report.heat import heat

SVG = "{http://www.w3.org/2000/svg}"


def test_every_weight_is_a_cell_in_its_row_and_column_as_dark_as_it_is_large():
    weights_TS = np.array([[0.0, 0.25, 0.75], [1.0, 0.0, 0.0]])
    picture = ElementTree.fromstring(heat(weights_TS, ["le", "chat"], ["the", "cat", "."], "where"))
    cells = picture.findall(f"{SVG}rect")
    places = [(float(c.get("y")), float(c.get("x")), float(c.get("fill-opacity"))) for c in cells]
    shades = np.array([opacity for *_, opacity in sorted(places)]).reshape(2, 3)
    np.testing.assert_allclose(shades, weights_TS)
    assert [c.find(f"{SVG}title").text for c in cells][:2] == ["le ← the: 0.00", "le ← cat: 0.25"]
    width, height = float(picture.get("width")), float(picture.get("height"))
    for cell, (y, x, _) in zip(cells, places, strict=True):
        assert x + float(cell.get("width")) <= width
        assert y + float(cell.get("height")) <= height


def test_words_are_escaped_and_the_title_is_there():
    picture = heat(np.ones((1, 1)), ["<b>&"], ['"<script>'], "a < b")
    texts = [element.text for element in ElementTree.fromstring(picture).findall(f"{SVG}text")]
    assert texts == ["a < b", '"<script>', "<b>&"]
    assert "<script>" not in picture


def test_names_that_do_not_fit_the_weights_are_refused():
    with pytest.raises(ValueError, match=r"weights are \(1, 2\) for 1 rows and 1 columns"):
        heat(np.ones((1, 2)), ["a"], ["b"], "")
