"""Claims about the page of two runs on one text."""

import re

import numpy as np
import pytest
from rich.console import Console

from gptjax.evals.differences import Breakdown, Part, Units, by_document, by_kind, compare
from gptjax.evals.paired import Interval
from gptjax.report import comparison
from gptjax.report.comparison import Reader, differing, write

TEXT = "".join(f"<script>{i}</script> & \"says\" '{i * i}'\n" for i in range(30))
PIECES = list(TEXT)
NATS = np.random.default_rng(0).exponential(size=(2, len(TEXT)))
NATS[1] -= 0.25


@pytest.fixture(scope="module")
def told():
    document_U = (np.arange(len(TEXT)) > 400).astype(int)
    units = Units("token", PIECES, NATS, document_U, len(TEXT))
    labels = {"kind": by_kind(units), "source": by_document(document_U, ["<b>.txt", "c.txt"])}
    found = compare(units, labels, seed=0)
    readers = tuple(
        Reader(name, PIECES, (NATS[i] / np.log(2)).tolist(), np.arange(len(TEXT)), {"tokens": len(TEXT), "step": 3})
        for i, name in enumerate(("a<i>", "b&"))
    )
    return readers, found


@pytest.fixture(scope="module")
def page(told, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "page.html"
    write(*told, ["one <note>"], "da<ta>.txt", out)
    return out.read_text(encoding="utf-8")


def test_hostile_text_and_names_are_escaped(page):
    for markup in ("<script>", "<i>", "<note>", "<ta>", "<b>.txt"):
        assert markup not in page
    assert page.count(">&lt;</span>") >= 3 * TEXT.count("<")  # both readers, and who predicts better


def test_the_page_needs_nothing_from_elsewhere(page):
    assert "http" not in page
    assert not re.findall(r"\b(?:src|href)=", page)


def test_every_part_has_its_numbers_and_a_bar_in_the_colour_of_the_better_run(page, told):
    bars = re.findall(r'<rect[^>]*fill="var\(--run(\d)\)"', page)
    parts = [part for breakdown in told[1].breakdowns for part in breakdown.parts]
    assert [int(bar) for bar in bars] == [int(part.difference.mean < 0) for part in parts]
    for part in parts:
        assert f"{part.nats_a / part.units:.4f}" in page
        assert f"{part.difference.mean:+.4f}" in page


def test_a_bar_reaches_from_nothing_to_the_mean_inside_its_interval(told):
    breakdown = told[1].breakdowns[1]
    scale = comparison._scale(breakdown)
    for part, (_, bar) in zip(breakdown.parts, comparison._rows(breakdown), strict=True):
        x, width = map(float, re.search(r'<rect x="([\d.]+)" y="4" width="([\d.]+)"', bar).groups())
        ends = sorted([scale(0.0), scale(part.difference.mean)])
        assert (x, x + width) == pytest.approx(ends, abs=0.11)
        low, high = map(float, re.search(r"M([\d.]+) 9H([\d.]+)", bar).groups())
        assert 0 <= low <= scale(part.difference.mean) <= high <= comparison.WIDTH


def test_a_mean_that_has_no_interval_is_cut_at_the_edge_and_leaves_the_others_their_room():
    sure = Part("sure", 90, 0.0, 9.0, Interval(0.1, 0.05, 0.15))
    breakdown = Breakdown("kind", "", [sure, Part("rare", 1, 0.0, -50.0, Interval(-50.0, None, None))])
    bars = [re.search(r'<rect x="([\d.]+)" y="4" width="([\d.]+)"', bar) for _, bar in comparison._rows(breakdown)]
    wide, cut = ([float(x) for x in bar.groups()] for bar in bars)
    assert wide[1] > comparison.WIDTH / 2
    assert cut[0] == 4
    assert cut[1] < comparison.WIDTH / 10


def test_text_has_the_colour_of_the_run_that_predicts_it_better():
    text = differing(["a", "<", "c"], np.array([1.0, 2.0, 1.0]), np.array([4.0, 0.5, 1.0]))
    a, b, c = re.findall(r"<span.*?</span>", text)
    assert "--run0) 80%" in a
    assert "--run1) 40%" in b
    assert "A 2.00, B 0.50 nats: -1.50" in b
    assert "style" not in c


def test_a_terminal_gets_the_whole_and_every_breakdown(told):
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for table in comparison.terminal(*told, ["one tokenizer"]):
        console.print(table)
    text = console.export_text()
    for part in (told[1].whole, *(part for b in told[1].breakdowns for part in b.parts)):
        assert f"{part.difference.mean:+.4f}" in text
    assert f"bits per byte {told[1].bits_per_byte.mean:+.4f}" in text
    assert "<b>.txt" in text
