"""Claims about the page of a text inside a model."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from gptjax.evals.lens import lens
from gptjax.report import inspection
from gptjax.report.inspection import Inspection, visible, write

PIECES = ["<script>alert(1)</script>", " \"'", "&amp;", "\n", "é北</span>"]
T = len(PIECES)
LOGITS = np.random.default_rng(0).normal(size=(3, T, T)).astype(np.float32)


class Tags(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.open, self.text = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_data(self, data):
        if self.open[-1:] != ["style"] and self.open[-1:] != ["script"]:
            self.text.append(data)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass


def found(**fields):
    weights = np.tril(np.ones((2, 3, T, T)))
    seen = lens(["embedding", "layer 1", "layer 2"], lambda a: LOGITS[a], np.array([1, 2, 3, 4, -1]))
    whole = Inspection(
        title="</title><script>",
        pieces=PIECES,
        ids=list(range(T)),
        bits=[2.0, *(seen.nats_T[:-1] / np.log(2)).tolist()],
        lens=seen,
        places=np.arange(1, T + 1),
        weights_LNTS=weights / weights.sum(-1, keepdims=True),
        neighbours=[(piece, [(PIECES[0], 0.5)]) for piece in PIECES],
        names=PIECES.__getitem__,
        notes=("a <b>note</b>",),
    )
    return whole._replace(**fields)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "page.html"
    write(found(), out)
    return out.read_text(encoding="utf-8")


def test_hostile_text_is_text_and_nothing_else(page):
    read = Tags(page)
    assert [tag for tag, _ in read.tags].count("script") == 1
    assert "b" not in {tag for tag, _ in read.tags}
    told = "".join(read.text)
    for piece in PIECES:
        assert visible(piece) in told
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1]
    assert "alert(1)" in script
    assert "<" not in script.split("\n")[2]


def test_the_page_needs_nothing_from_elsewhere(page):
    assert not re.findall(r'(?:src|href)="(?!data:image/png;base64,|\{)[^"]*"', page)
    assert "http" not in page


def test_every_head_has_its_map_and_every_place_its_row(page):
    read = Tags(page)
    maps = [attributes["src"] for tag, attributes in read.tags if tag == "img"]
    assert len(maps) == 2 * 3
    cells = [attributes for tag, attributes in read.tags if tag == "td" and attributes.get("class") == "cell"]
    assert len(cells) == T * 3
    assert "what follows" in read.text


def test_a_cell_tells_the_layers_best_tokens_and_the_true_ones_share_and_rank(page):
    cells = [a for tag, a in Tags(page).tags if tag == "td" and a.get("class") == "cell"]
    seen = found().lens
    first = cells[0]["title"].splitlines()
    share, rank = seen.true_shares_AT[0, 0], seen.ranks_AT[0, 0]
    assert first[0] == f"{visible(PIECES[1])}: probability {share:.3f}, rank {rank}"
    assert first[1].endswith(f"{seen.top_shares_ATK[0, 0, 0]:.3f}")
    assert len(first) == 1 + T


def test_what_a_run_does_not_have_is_absent(tmp_path):
    write(found(lens=None, places=np.zeros(0, int), weights_LNTS=None, neighbours=None), tmp_path / "page.html")
    bare = (tmp_path / "page.html").read_text()
    for heading in ("Where attention looks", "What each layer", "Neighbours"):
        assert heading not in bare
    assert "<script>" not in bare


def test_a_terminal_shows_every_token_and_the_best_of_the_last_layer():
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(inspection.terminal(found()))
    lines = console.export_text().splitlines()
    rows = [line for line in lines if line.startswith("│")]
    assert len(rows) == T + 1
    for piece, row in zip(PIECES, rows, strict=False):
        assert visible(piece) in row
    best = visible(PIECES[int(LOGITS[2, 0].argmax())])
    assert best in rows[1].split("│")[3]


def test_long_texts_have_maps_without_labels(tmp_path):
    n = 90
    weights = np.full((1, 1, n, n), 1 / n)
    long = found(
        pieces=["x"] * n, bits=[None] * n, lens=None, places=np.zeros(0, int), weights_LNTS=weights, neighbours=None
    )
    write(long, tmp_path / "page.html")
    assert 'class="row"' not in (tmp_path / "page.html").read_text()
    write(found(), tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().count('class="row"') == T


def test_json_has_every_number_of_the_page_and_null_where_there_is_none():
    seen = found().lens
    told = json.loads(json.dumps(found().to_json(), allow_nan=False))
    assert [(token["text"], token["id"]) for token in told["tokens"]] == list(zip(PIECES, range(T), strict=True))
    assert [token["bits"] for token in told["tokens"]] == found().bits
    assert [one["place"] for one in told["lens"]] == list(range(1, T + 1))
    for t, one in enumerate(told["lens"]):
        assert [cell["layer"] for cell in one["layers"]] == seen.layers
        for a, cell in enumerate(one["layers"]):
            assert [top["id"] for top in cell["top"]] == seen.top_ids_ATK[a, t].tolist()
            assert [top["text"] for top in cell["top"]] == [PIECES[top["id"]] for top in cell["top"]]
            assert [top["probability"] for top in cell["top"]] == seen.top_shares_ATK[a, t].tolist()
            expected = {"probability": float(seen.true_shares_AT[a, t]), "rank": int(seen.ranks_AT[a, t])}
            assert cell["true"] == (expected if t < T - 1 else None)
    np.testing.assert_allclose(told["attention"], found().weights_LNTS, atol=1e-6)
    assert told["neighbours"][1] == {"text": PIECES[1], "near": [{"text": PIECES[0], "cosine": 0.5}]}
    bare = found(lens=None, places=np.zeros(0, int), weights_LNTS=None, neighbours=None).to_json()
    assert bare["lens"] is bare["attention"] is bare["neighbours"] is None


def test_numbers_that_are_not_finite_are_null():
    weights, shares = np.full((1, 1, T, T), np.nan, np.float32), found().lens.top_shares_ATK.copy()
    shares[2, 1] = np.inf
    strange = found(
        weights_LNTS=weights, lens=found().lens._replace(top_shares_ATK=shares), neighbours=[("a", [("b", np.nan)])]
    )
    told = json.loads(json.dumps(strange.to_json(), allow_nan=False))
    assert told["attention"] == [[[[None] * T] * T]]
    assert [top["probability"] for top in told["lens"][1]["layers"][2]["top"]] == [None] * T
    assert told["neighbours"] == [{"text": "a", "near": [{"text": "b", "cosine": None}]}]
