"""A map of words shows each where it is, and says no more than their names."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from gptjax.report import scatter

POINTS = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]])


def circles(svg):
    root = ElementTree.fromstring(svg)
    found = [e.attrib for e in root.iter() if e.tag.endswith("circle")]
    return np.array([[float(e["cx"]), float(e["cy"])] for e in found]), [e["fill"] for e in found]


def test_distances_are_true_and_up_is_up():
    places, colours = circles(scatter.to_svg(POINTS, ["a", "b", "c"], ["x", "y", "x"]))
    across, up = places[1] - places[0], places[2] - places[0]
    np.testing.assert_allclose(across, [-2 * up[1], 0], atol=0.3)
    assert up[1] < 0
    assert (places >= 0).all()
    assert (places <= [scatter.WIDTH, scatter.HEIGHT]).all()
    assert colours[0] == colours[2] != colours[1]


def test_names_are_text_and_never_markup():
    svg = scatter.to_svg(POINTS, ["<script>", "&amp;", '"'], ["<b>", "y", "x"])
    assert "<script>" not in svg
    texts = [e.text for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("text")]
    assert texts == ["<script>", "&amp;", '"', "<b>", "y", "x"]


def test_one_place_for_all_is_a_picture_too():
    assert not re.search("nan|inf", scatter.to_svg(np.zeros((3, 2)), ["a", "b", "c"], ["x"] * 3))
    with pytest.raises(ValueError, match="zip"):
        scatter.to_svg(POINTS, ["a"], ["x"])
