"""A predicted time of one update from its work and its machine's data sheet: arithmetic, and never a measurement."""

from collections.abc import Sequence
from typing import NamedTuple

from gptjax.plan.flops import Flops
from gptjax.plan.machines import GPUS_OF_HOST, Topology
from gptjax.plan.program import Collective, Traffic


class Attained(NamedTuple):
    """Shares of what the data sheet says."""

    products: float
    """Of the peak, by matrix products."""
    kernels: float
    """Of the peak, by fused attention."""
    memory: float
    """Of memory's rate."""
    links: float
    """Of the links' rate."""
    hidden: float
    """Of communication, behind computation."""


BEST = Attained(products=1.0, kernels=1.0, memory=1.0, links=1.0, hidden=1.0)
LIKELY = Attained(products=0.7, kernels=0.35, memory=0.8, links=0.7, hidden=0.5)
WORST = Attained(products=0.45, kernels=0.2, memory=0.5, links=0.35, hidden=0.0)


def _range(name: str) -> str:
    likely, ends = getattr(LIKELY, name), sorted((getattr(WORST, name), getattr(BEST, name)))
    return f"{likely:.0%} ({ends[0]:.0%} to {ends[1]:.0%})"


BASIS = (
    f"roofline, not measured: of the data sheet's rates, products attain {_range('products')}, attention kernels "
    f"{_range('kernels')}, memory {_range('memory')}, links {_range('links')}; {_range('hidden')} of communication "
    "hides behind computation; launching and waiting take no time"
)
UNKNOWN = "no prediction: this machine is on no data sheet"


class Times(NamedTuple):
    """Of one update, or of a whole run."""

    low: float
    """With `BEST`: no machine is faster."""
    expected: float
    """With `LIKELY`."""
    high: float
    """With `WORST`."""

    def times(self, factor: float) -> "Times":
        """So many of them."""
        return Times(*(time * factor for time in self))


class Work(NamedTuple):
    """What one device does in an update."""

    flops: Flops
    """Its share."""
    traffic: Traffic
    collectives: Sequence[Collective]


def predict(topology: Topology, precision: str, work: Work) -> Times | None:
    """Seconds of one update; None where the chip's rates are not known."""
    chip = topology.chip
    if chip.peak_flops is None or chip.memory_rate is None or chip.link_rate is None:
        return None
    peak = chip.peak_flops * (chip.float32_share if precision == "float32" else 1.0)
    rate = chip.memory_rate
    links = sum(_leaving(one) / _rate(one, topology, chip.link_rate) for one in work.collectives)

    def seconds(attained: Attained) -> float:
        products = max(
            work.flops.products / (peak * attained.products), work.traffic.products / (rate * attained.memory)
        )
        kernels = work.flops.kernels / (peak * attained.kernels)
        busy = products + kernels + work.traffic.others / (rate * attained.memory)
        talking = links / attained.links
        return busy + max(talking * (1 - attained.hidden), talking - busy)

    return Times(seconds(BEST), seconds(LIKELY), seconds(WORST))


def _leaving(collective: Collective) -> float:
    """Bytes that leave a device in a ring: all but its own share, twice where they are added up and sent back."""
    share = (collective.group - 1) / collective.group * collective.bytes
    return {"all-reduce": 2 * share, "collective-permute": collective.bytes}.get(collective.kind, share)


def _rate(collective: Collective, topology: Topology, link_rate: float) -> float:
    """Of the links, or of the network where GPUs are on several hosts: every group as if spread over all of them."""
    if topology.hosts == 1 or topology.chip.network_rate is None:
        return link_rate
    together = min(GPUS_OF_HOST, max(1, collective.group // topology.hosts))
    return min(link_rate, topology.chip.network_rate * together)
