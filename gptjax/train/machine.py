"""The machine under a run: what it is, and how much of it the model uses."""

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax

import gptjax

# Dense bf16 FLOP/s of one device as jax counts devices, from the makers' data sheets; the first name that fits counts.
PEAK_FLOPS = {
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "GH200": 989e12,
    "H200": 989e12,
    "B200": 2250e12,
    "A100": 312e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v6": 918e12,
}


def peak_flops(device_kind: str) -> float | None:
    """Dense bf16 FLOP/s on paper of one such device (`jax.devices()[0].device_kind`); None where it is not known."""
    return next((flops for name, flops in PEAK_FLOPS.items() if name in device_kind), None)


def mfu(flops_per_token: float, tokens_per_second: float, peak_flops: float | None) -> float | None:
    """Model FLOPs utilisation: the share of all devices' `peak_flops` that the model's own arithmetic takes.

    (Chowdhery et al., arXiv 2204.02311, appendix B.) None where the peak is not known.
    """
    return None if peak_flops is None else flops_per_token * tokens_per_second / peak_flops


def environment() -> dict[str, Any]:
    """What a run stood on, for environment.json: versions, devices, commit, flags and command; no names of machines."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "gptjax": gptjax.__version__,
        "commit": _commit(Path(gptjax.__file__).parents[1]),
        "python": platform.python_version(),
        **{name: _version(name) for name in packages},
        "platform": jax.default_backend(),
        "devices": sorted({d.device_kind for d in jax.devices()}),
        "device_count": jax.device_count(),
        "process_count": jax.process_count(),
        "cpu_count": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "command": sys.argv,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit(source: Path) -> str | None:
    """The commit that the code was checked out at, "+" behind it where files differ; None outside a repository."""
    if not (source / ".git").exists():
        return None
    command = ["git", "-C", str(source), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
