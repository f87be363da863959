"""Does pretraining help? SST-2 from a GPT pretrained on WikiText-2, and from the same GPT untrained.

Command      python experiments/sst2_transfer.py --wikitext wikitext-2 --sst2 SST-2 --out runs/transfer [--seeds 5]
Cost         under 20 minutes on two CPU cores for five seeds; with the --out of `bert.py` its runs are not made again
Expected     accuracy on all of the development set, mean of seeds 1 to 5 and its standard error: pretrained 0.732 +-
             0.004, from scratch 0.697 +- 0.006, pretrained with the auxiliary loss 0.733 +- 0.004; paired by seed,
             pretraining gains 0.035 (95% interval 0.017 to 0.053), every seed among them
Data         wikitext-2 holds train.txt and valid.txt (Hugging Face: Salesforce/wikitext, wikitext-2-v1), SST-2 holds
             train.tsv and dev.tsv (nyu-mll/glue, sst2)

All rows get the same fine-tuning, `bert.py`'s: the same 6,400 of 67,349 examples in the same order, 200 updates, a head
on the mean of all tokens' vectors; pretraining is 4.1M tokens of WikiText-2 in lower case. The first two rows
have the best of 2e-3 and 5e-3 for each with seed 0, which is left out of the table. The last row adds GPT-1's auxiliary
language-model loss, at the first row's rate.

Where no clear gain was found: a head on the last token, and cased text. A GPT of 4 layers of 192 then gave 0.677 both
ways after 150 updates (three seeds), and in some twenty single trials of 200 to 800 updates, AdamW and Muon, the best
pretrained one reached 0.79 and the best untrained one 0.78.
"""

import statistics
import sys
from dataclasses import replace
from pathlib import Path

from bert import GPT_, command_line, gpt, judged, lower_cased, tuned
from rich.console import Console
from rich.table import Table

from gptjax import launch
from gptjax.ablate.summary import difference, standard_error
from gptjax.cli import default_cache, guarded, say
from gptjax.config import Run
from gptjax.objectives.tasks import Classification
from gptjax.train.folder import write_json

SCRATCH = "gpt-from_scratch-0.002"
LM_WEIGHT = 0.5
"""GPT-1's weight of the auxiliary loss."""


def rows(sst2_folder: Path, pretrained: Path) -> dict[str, Run]:
    """The table's rows with seed 1, by the names of their folders, which are those of `bert.py`."""
    alone = tuned(pretrained, sst2_folder, GPT_, "pretrained", 5e-3, 1)
    both = Classification(segment_tokens=54, pool="mean", lm_weight=LM_WEIGHT)
    return {
        "gpt-pretrained-0.005": alone,
        SCRATCH: tuned(pretrained, sst2_folder, GPT_, "from scratch", 2e-3, 1),
        "gpt-pretrained-0.005-auxiliary": replace(alone, objective=both),
    }


def main(wikitext: Path, sst2_folder: Path, out: Path, seeds: int) -> None:
    """Pretrain once, fine-tune every row with every seed, print one table; what is done is not done again."""
    cache = default_cache()
    launch.launch(gpt(lower_cased(wikitext, out / "text")), out / "gpt", cache, say)
    table = Table("row", "accuracy", "s.e.", "minus from scratch [95%]", "each seed", title="SST-2 development set")
    found: dict[str, dict[int, float]] = {}
    for name, run in rows(sst2_folder, out / "gpt").items():
        found[name] = {}
        for seed in range(1, seeds + 1):
            folder = out / f"{name}-{seed}"
            launch.launch(replace(run, seed=seed), folder, cache, say)
            found[name][seed] = judged(folder)["accuracy"]
    for name, scores in found.items():
        each, apart = list(scores.values()), difference(scores, found[SCRATCH])
        gain = "" if apart is None or name == SCRATCH else f"{apart.mean:+.3f} [{apart.low:+.3f}, {apart.high:+.3f}]"
        mean, error = f"{statistics.fmean(each):.3f}", f"{standard_error(each) or 0:.3f}"
        table.add_row(name, mean, error, gain, " ".join(f"{score:.3f}" for score in each))
    write_json(out / "transfer.json", found)
    Console().print(table)


if __name__ == "__main__":
    asked = command_line(__doc__, seeds=5)
    sys.exit(guarded(lambda: main(asked.wikitext, asked.sst2, asked.out, asked.seeds)))
