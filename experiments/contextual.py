"""One word, two senses: do a model's layers tell them apart, where a static vector cannot?

Command      python experiments/contextual.py RUN [RUN ...] [--json]
             (runs of experiments/bert.py: RUN is its --out with /bert or /gpt behind it)
Cost         half a minute on one CPU core
Expected     last layer of the GPT: 0.105 within a sense, 0.241 across, nearest has the sense 0.91; of the BERT: 0.179,
             0.229, 0.66; static: 0, 0, 0.43 (chance)

For eight words, two senses of four sentences each: the cosine distance between the word's vectors within a sense and
across senses, by layer, and how often the nearest other occurrence has the same sense (chance 3/7). "static" is the
token embedding, one vector whatever stands around. What tells the sense stands before the word, for a GPT reads no
further. Lower case and spaced marks, as the text that those runs read. A picture for each run:
RUN/pictures/contextual.svg.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from gptjax import trained
from gptjax.cli import guarded, say
from gptjax.evals.senses import Spread, occurrences, spread
from gptjax.report.bands import Band, bands

WORDS = {
    "bank": (
        (
            "the village lies on the river , and a path leads along the south bank of the stream .",
            "troops crossed the river by boat and landed on the west bank under fire .",
            "the castle was built beside the river on its north bank in 1250 .",
            "floods from the river washed away trees along the east bank .",
        ),
        (
            "he borrowed money and worked for three years in a bank in london .",
            "the company paid its debt with a loan from the national bank of france .",
            "she put the money that she earned in the bank every week .",
            "the government gave credit to industry through a state bank in 1932 .",
        ),
    ),
    "match": (
        (
            "the team won the final by two goals , and he scored in the match against england .",
            "the players of both clubs were injured in the first match of the season .",
            "he lost the championship on the last day in a wrestling match .",
            "thousands of supporters saw the team win the football match .",
        ),
        (
            "he took a cigarette and lit it with a match .",
            "the house was set on fire with petrol and a match .",
            "it was dark , and to light the candle she struck a match .",
            "gas in the kitchen exploded when the flame of a match touched it .",
        ),
    ),
    "star": (
        (
            "astronomers measured the light and the mass of the star with a telescope .",
            "the planet moves around its star in ten days .",
            "the sun is seven times smaller than the star in mass and radius .",
            "in the night sky it is the third brightest star of its constellation .",
        ),
        (
            "the actress became famous in hollywood as a film star .",
            "critics said that the singer was the biggest pop star of the year .",
            "he appeared on television as a guest star in the second episode .",
            "the album and its songs made the band 's singer a rock star .",
        ),
    ),
    "record": (
        (
            "the band signed a contract with a record company .",
            "their debut album was sold by the record label in 1994 .",
            "the song was published and sung by him on a record .",
            "her single was played on the radio , and the producer made a record of it .",
        ),
        (
            "he ran the race in ten seconds , a world record .",
            "the team ended the season with a losing record of four games .",
            "the player broke the league record for most goals in a season .",
            "with two wins and nine losses it was their worst record in history .",
        ),
    ),
    "fire": (
        (
            "the wooden church burned down in a fire in 1788 .",
            "smoke filled the building , and ten people died in the fire .",
            "dry grass and wind in summer helped the forest fire to spread .",
            "the house was destroyed by water and by fire .",
        ),
        (
            "the enemy guns on the hill opened fire on the infantry .",
            "the soldiers advanced under heavy machine gun fire .",
            "the ships of the fleet came under fire from the guns of the fort .",
            "the tanks were stopped by artillery fire .",
        ),
    ),
    "pitch": (
        (
            "the singer has a high voice and sings the notes at a low pitch .",
            "the sound of the guitar was raised in pitch .",
            "the melody begins on a note of high pitch .",
            "the instrument is tuned by changing the pitch of each string .",
        ),
        (
            "the players of both teams left the football pitch at half time .",
            "supporters of the club ran onto the pitch after the final goal .",
            "the captain was injured and carried off the pitch .",
            "rain made the cricket ground wet and slowed the pitch .",
        ),
    ),
    "order": (
        (
            "the general gave his troops the order to attack .",
            "the captain of the ship received an order to fire .",
            "the king signed an order to arrest the officers .",
            "the commander ignored the order to withdraw the division .",
        ),
        (
            "the names are listed in alphabetical order below .",
            "the stories were published in the wrong order and later sorted .",
            "the episodes were shown in a different order on television .",
            "the chapters of the book are arranged in reverse order .",
        ),
    ),
    "may": (
        (
            "the storm formed in the atlantic in early may 2003 .",
            "the ship was launched in april and sank on 7 may 1915 .",
            "the battle began in april and ended on 3 may 1863 .",
            "the song was released as a single in the united kingdom on 12 may 2008 .",
        ),
        (
            "scientists think that the species may live for many years .",
            "it is not known why , but the animals may have died from disease .",
            "some historians believe that the king may have visited the town .",
            "the females are larger than males and may weigh twice as much .",
        ),
    ),
}


class Found(NamedTuple):
    """Of one run."""

    static: list[Spread]
    """A spread of one layer for each word."""
    layers: list[Spread]
    """A spread of all layers for each word."""


def judge(folder: Path) -> Found:
    """All words under one run's model."""
    found = trained.load(folder, say)
    static, layers = [], []
    for word, (first, second) in WORDS.items():
        states_LED, static_ED = occurrences(found.run, found.tokenizer, found.params["model"], word, [*first, *second])
        senses_E = np.repeat([0, 1], [len(first), len(second)])
        static.append(spread(static_ED[None], senses_E))
        layers.append(spread(states_LED, senses_E))
    return Found(static, layers)


def lines(found: Found) -> list[Band]:
    """Within and across senses, static first, then layer by layer: means over words and their standard errors."""
    made = []
    for name, field in (("within a sense", "within_L"), ("across senses", "across_L")):
        values_WL = np.stack(
            [np.append(getattr(s, field), getattr(x, field)) for s, x in zip(found.static, found.layers, strict=True)]
        )
        errors_L = values_WL.std(0, ddof=1) / len(values_WL) ** 0.5
        made.append(Band(name, values_WL.mean(0).tolist(), errors_L.tolist()))
    return made


def main(folders: list[Path], as_json: bool) -> None:
    """Judge every run, draw its picture, print one table."""
    table = Table(
        "run", "vectors", "within a sense", "across senses", "nearest has the sense", title="cosine distances"
    )
    values = {}
    for folder in folders:
        found = judge(folder)
        within, across = lines(found)
        nearest = np.mean([np.append(s.nearest_L, x.nearest_L) for s, x in zip(*found, strict=True)], axis=0)
        places = ["static", *map(str, range(len(nearest) - 1))]
        picture = bands(places, f"layer of {folder.name}", "cosine distance between a word's vectors", [within, across])
        (folder / "pictures").mkdir(exist_ok=True)
        (folder / "pictures/contextual.svg").write_text(picture, encoding="utf-8")
        for place, a, b, c in zip(places, within.values, across.values, nearest, strict=True):
            table.add_row(folder.name, place, f"{a:.3f}", f"{b:.3f}", f"{c:.2f}")
        values[str(folder)] = {"within": within.values, "across": across.values, "nearest": nearest.tolist()}
    if as_json:
        print(json.dumps(values))
    else:
        Console().print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders of models that show their layers")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    sys.exit(guarded(lambda: main(asked.runs, asked.json)))
