"""What tests share: real processes of gptjax, and a text to train on."""

import os
import sys
from pathlib import Path

import jax
import pytest

sys.path.insert(0, str(Path(__file__).parent))
if not any(Path(node).exists() for node in ("/dev/nvidia0", "/dev/accel0", "/dev/vfio/0")):
    # The compiler for TPUs is installed for tests; without a TPU JAX would say at every start that it found none.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")


@pytest.fixture(scope="session")
def text(tmp_path_factory) -> Path:
    """A text file of a few kilobytes."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join(f"line {i} says {i * i % 97} and no more.\n" for i in range(400)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def unoptimised():
    """For tests whose programs run for less time than they compile: XLA leaves them as they are."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
