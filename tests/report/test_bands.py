"""Claims about pictures of lines with bands."""

import re
from xml.etree import ElementTree

from gptjax.report.bands import Band, bands

LINES = [Band("within <a> & b", [0.0, 1.0, 2.0], [0.0, 0.5, 0.1]), Band("across", [1.0, 2.0, 4.0], [0.0, 0.0, 0.0])]


def test_a_picture_is_svg_whose_names_are_escaped():
    root = ElementTree.fromstring(bands(["static", "<1>", "2"], "layer & more", "distance", LINES))
    texts = [node.text for node in root.iter() if node.text]
    assert {"within <a> & b", "<1>", "layer & more"} <= set(texts)


def test_higher_values_stand_higher_and_a_band_lies_on_both_sides_of_its_line():
    root = ElementTree.fromstring(bands(["0", "1", "2"], "layer", "distance", LINES))
    circles = [(float(c.get("cx")), float(c.get("cy"))) for c in root.iter() if c.tag.endswith("circle")]
    first, second = circles[:3], circles[3:]
    assert [x for x, _ in first] == [x for x, _ in second] == sorted(x for x, _ in first)
    assert first[1][1] == second[0][1]  # equal values, equal heights
    assert first[0][1] > first[1][1] > first[2][1] > second[2][1]
    area = next(p.get("d") for p in root.iter() if p.tag.endswith("path") and p.get("fill-opacity"))
    at_middle = [float(y) for x, y in re.findall(r"([\d.]+) ([\d.]+)", area) if float(x) == first[1][0]]
    assert min(at_middle) < first[1][1] < max(at_middle)
