"""The few numbers of a run that one wants to know first."""

import statistics
from typing import Any, NamedTuple

from gptjax.report.record import Record, Row

TRAINED = (
    "train loss", "progress", "tokens", "time", "tokens/s", "MFU", "memory", "skipped", "parameters", "adapters",
    "trained parameters",
)  # fmt: skip
"""Names in a headline of what was not judged."""


class Figure(NamedTuple):
    """One number of a headline."""

    text: str
    note: str = ""


def headline(record: Record) -> dict[str, Figure]:
    """What one wants to know first, by name; only what the run has."""
    found = _judged(record.judged)
    if record.training:
        found |= _trained(record)
    elif "steps" in record.config:  # a counted model has none
        found["progress"] = Figure("0", f"of {record.config['steps']:,} updates")
    if record.parameters is not None:
        found["parameters"] = Figure(f"{record.parameters:,}")
    if (adapters := record.adapters) is not None:
        lora = adapters.lora
        found["adapters"] = Figure(f"rank {lora.rank}", f"alpha {lora.alpha:g}, of {lora.adapted()}")
        found["trained parameters"] = Figure(f"{adapters.trained:,}", f"{adapters.frozen:,} frozen")
    return found


def _judged(rows: list[Row]) -> dict[str, Figure]:
    """The latest value of every metric, and the best likelihood where it is an earlier one."""
    found = {k: Figure(number(v)) for row in rows for k, v in row.items() if v is None or isinstance(v, float)}
    likelihoods = [(row["nats_per_token"], row["step"]) for row in rows if row.get("nats_per_token") is not None]
    if likelihoods and (best := min(likelihoods)) != likelihoods[-1]:
        latest = number(likelihoods[-1][0])
        found["nats_per_token"] = Figure(latest, f"best {number(best[0])} at step {best[1]:,}")
    return found


def _trained(record: Record) -> dict[str, Figure]:
    rows, last = record.training, record.training[-1]
    # Rows are every few updates; each stands for the updates since the row before it.
    spans = [row["step"] - before for before, row in zip([0, *(r["step"] for r in rows)], rows, strict=False)]
    seconds = sum(row["step_seconds"] * span for row, span in zip(rows, spans, strict=True))
    tokens = sum(row["tokens"] * span for row, span in zip(rows, spans, strict=True))
    found = {
        "train loss": Figure(number(recent(rows, "loss_nats")), "nats, mean of the last rows"),
        "progress": Figure(f"{last['step']:,}", f"of {record.config.get('steps', 0):,} updates"),
        "tokens": Figure(number(tokens), "predicted in training"),
        "time": Figure(duration(seconds), "in updates"),
    }
    rates = [row["tokens_per_second"] for row in rows if row.get("tokens_per_second")]
    if rates:
        found["tokens/s"] = Figure(number(statistics.median(rates)), "median")
    shares = [row["mfu"] for row in rows if row.get("mfu")]
    if shares:
        found["MFU"] = Figure(f"{100 * statistics.median(shares):.1f}%", "whole attention square, median")
    if last.get("memory_bytes"):
        found["memory"] = Figure(f"{last['memory_bytes'] / 2**30:.2f} GiB", "peak")
    if last.get("skipped"):
        found["skipped"] = Figure(f"{int(last['skipped']):,}", "updates that were not finite")
    return found


def recent(rows: list[Row], name: str) -> float | None:
    """Mean of the last tenth of a metric's finite values, twenty at most: one batch's loss is mostly noise."""
    values = [row[name] for row in rows if row.get(name) is not None]
    return statistics.fmean(values[-min(20, max(1, len(values) // 10)) :]) if values else None


def number(value: Any) -> str:
    """A number as a person writes it; other values as they are, and a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, float):
        size = abs(value)
        return f"{value:,.0f}" if size >= 1000 else f"{value:.2f}" if size >= 10 else _small(value)
    return f"{value:,}" if type(value) is int else str(value)


def _small(value: float) -> str:
    return f"{value:.4f}" if abs(value) >= 0.01 or value == 0 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """`48 s`, `12 min 5 s`, `3 h 20 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole // 60 % 60} min"
