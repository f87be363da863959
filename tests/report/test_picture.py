import itertools
import xml.etree.ElementTree as ET

from gptjax.report.picture import LINE, Level, Trace, picture

SPACE = "{http://www.w3.org/2000/svg}"


def drawn(traces, levels=()):
    return ET.fromstring(picture("seconds", "nats", traces, list(levels)))


def test_a_picture_has_a_line_for_every_trace_and_a_dash_for_every_level():
    found = drawn([Trace("a<b>", [(1.0, 3.0), (10.0, 2.0)]), Trace("c", [(2.0, 2.5)])], [Level("7-gram", 1.5)])
    assert len(found.findall(f"{SPACE}path")) == 2
    assert len(found.findall(f"{SPACE}circle")) == 3
    assert sum("stroke-dasharray" in line.attrib for line in found.findall(f"{SPACE}line")) == 1
    assert {"a<b>", "c", "7-gram"} <= {text.text for text in found.findall(f"{SPACE}text")}


def test_names_of_lines_that_end_together_do_not_overlap():
    names = [f"row{i}" for i in range(12)]
    found = drawn([Trace(name, [(1.0, 2.0 + i * 1e-4), (9.0, 1.0)]) for i, name in enumerate(names)])
    places = sorted(float(t.attrib["y"]) for t in found.findall(f"{SPACE}text") if t.text in names)
    assert min(b - a for a, b in itertools.pairwise(places)) >= LINE - 0.2
    assert max(places) < 560
