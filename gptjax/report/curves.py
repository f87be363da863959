"""Which curves several runs have, and how they are thinned and smoothed to be seen at a glance."""

import math
import statistics
from collections.abc import Sequence

from gptjax.report.chart import Chart, Curve, Point, chart
from gptjax.report.record import Record

BUCKETS = 300
"""Buckets that a long curve is thinned to."""

TITLES = {
    "loss_nats": "Loss, nats",
    "grad_norm": "Gradient norm",
    "lm_nats": "Loss on the text itself, nats",
    "tokens_per_second": "Tokens per second",
    "mfu": "Model FLOPs utilisation",
    "host_wait_share": "Share of time waiting for data",
}
FROM_ZERO = {"learning_rate": 0.0, "tokens_per_second": 0.0, "mfu": 0.0, "host_wait_share": 0.1}
"""Metrics whose axis begins at 0, and where it ends at the least."""
# Each says what another curve says, or is constant. nats_per_token is on the chart of the loss.
LEFT_OUT = ("perplexity", "mfu_causal", "step_seconds", "tokens", "nats_per_token")


def charts(records: Sequence[Record]) -> list[Chart]:
    """A chart for every metric that any of the runs has, the loss first and widest."""
    found = []
    for name in _names(records):
        curves = [curve for i, record in enumerate(records) for curve in _curves(i, record, name)]
        if any(value is not None for curve in curves for _, value in curve.points):
            title = TITLES.get(name, name.replace("_", " ").capitalize())
            found.append(chart(title, curves, wide=name == "loss_nats", least_top=FROM_ZERO.get(name)))
    return found


def _names(records: Sequence[Record]) -> list[str]:
    """Loss, then what was judged, then the other numbers of training."""
    names = ["loss_nats"]
    for rows in [r.judged for r in records] + [r.training for r in records]:
        names += [k for row in rows for k, v in row.items() if isinstance(v, float) and k not in LEFT_OUT]
    return [name for name in dict.fromkeys(names) if name != "nats" or not _same(records)]


def _same(records: Sequence[Record]) -> bool:
    """Whether the loss is nothing but the nats, as it is without z-loss and label smoothing."""
    pairs = [(row["nats"], row["loss_nats"]) for r in records for row in r.training + r.judged if row.get("nats")]
    return all(loss is not None and math.isclose(nats, loss, rel_tol=1e-5) for nats, loss in pairs)


def _curves(run: int, record: Record, name: str) -> list[Curve]:
    """One run's curves of a metric: training, its trend, and each held-out split."""
    found = []
    points = [(row["step"], row[name]) for row in record.training if name in row]
    label = f"{record.name} · train"
    if name == "learning_rate" or 0 < len(points) < 40:
        found.append(Curve(run, "smooth", label, thin(points)))
    elif points:
        found += [Curve(run, "raw", "", thin(points)), Curve(run, "smooth", label, smooth(points))]
    names = ("nats_per_token", "loss_nats") if name == "loss_nats" else (name,)
    for split in dict.fromkeys(row["split"] for row in record.judged):
        rows = [row for row in record.judged if row["split"] == split]
        points = [(row["step"], next(row[n] for n in names if n in row)) for row in rows if {*names} & {*row}]
        if points:
            found.append(Curve(run, "judged", f"{record.name} · {split}", points))
    return found


def smooth(points: Sequence[Point]) -> list[Point]:
    """The trend, at two hundred rows or so: means over a fiftieth of the run to either side.

    Only the middle half of the values there is counted, so that a lone spike does not bend it.
    """
    finite = [(step, value) for step, value in points if value is not None]
    reach = max(1, len(finite) // 50)
    found: list[Point] = []
    for i in range(0, len(finite), max(1, len(finite) // 200)):
        near = sorted(value for _, value in finite[max(0, i - reach) : i + reach + 1])
        cut = len(near) // 4
        found.append((finite[i][0], statistics.fmean(near[cut : len(near) - cut])))
    return found


def thin(points: Sequence[Point]) -> list[Point]:
    """A long curve's buckets by their extremes: the smallest and the largest value, in order, so no spike is lost.

    A bucket with a missing value keeps one missing value.
    """
    size = -(-len(points) // BUCKETS)
    if size <= 2:
        return list(points)
    kept: list[Point] = []
    for first in range(0, len(points), size):
        bucket = points[first : first + size]
        finite = sorted((value, at) for at, (_, value) in enumerate(bucket) if value is not None)
        missing = [at for at, (_, value) in enumerate(bucket) if value is None]
        chosen = {at for _, at in finite[:1] + finite[-1:]} | {*missing[:1]}
        kept += [point for at, point in enumerate(bucket) if at in chosen]
    return kept
