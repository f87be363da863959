"""The verbs that take runs to other places: pages, and other libraries' folders."""

from collections.abc import Sequence

from gptjax import arguments, trained
from gptjax.interop import adopt as adopting
from gptjax.interop import classifier, origin, peft
from gptjax.interop import folder as folders
from gptjax.report import page
from gptjax.verbs.options import Export, Import, Report
from gptjax.verbs.shown import say


def report(argv: Sequence[str]) -> None:
    """`gptjax report`."""
    asked = arguments.parse(Report, argv, "gptjax report")
    page.write(list(asked.runs), asked.out)
    say(f"wrote {asked.out}")


def export(argv: Sequence[str]) -> None:
    """`gptjax export`."""
    asked = arguments.parse(Export, argv, "gptjax export")
    if asked.adapter:
        peft.write(trained.stored(asked.run, say), asked.folder, say)
    else:
        write = classifier.write if asked.classifier else folders.write
        write(origin.load(asked.run, say), asked.folder, say)
    say(f"wrote {asked.folder}")


def adopt(argv: Sequence[str]) -> None:
    """`gptjax import`."""
    asked = arguments.parse(Import, argv, "gptjax import")
    adopting.adopt(asked.folder, asked.out, say, asked.adapter)
    say(f"wrote {asked.out}")
