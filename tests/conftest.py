"""What tests share: a text to train on, and how programs are compiled, here and in the processes that tests start."""

import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

sys.path.insert(0, str(Path(__file__).parent))
if not any(Path(node).exists() for node in ("/dev/nvidia0", "/dev/accel0", "/dev/vfio/0")):
    # The compiler for TPUs is installed for tests; without a TPU JAX would say at every start that it found none.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")


def settle(name: str, value: str | int) -> None:
    """Set an option of JAX, here and in processes that are started later."""
    os.environ[name.upper()] = str(value)
    jax.config.update(name, value)


# Tests' programs run for less time than they compile: XLA is to leave them as they are, and no process is to compile
# what another has compiled.
settle("jax_disable_most_optimizations", True)
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    COMPILED = tempfile.TemporaryDirectory(prefix="gptjax-compiled-")
    settle("jax_compilation_cache_dir", COMPILED.name)
    settle("jax_persistent_cache_min_compile_time_secs", 0)


@pytest.fixture(scope="session")
def text(tmp_path_factory) -> Path:
    """A text file of a few kilobytes."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join(f"line {i} says {i * i % 97} and no more.\n" for i in range(400)), encoding="utf-8")
    return path


@pytest.fixture
def cudnn_claimed(monkeypatch):
    """JAX believes that cuDNN is installed: its attention is traced and lowered, and cannot be run."""
    library = pytest.importorskip("jax._src.cudnn.fused_attention_stablehlo")
    monkeypatch.setattr(library, "cuda_versions", SimpleNamespace(cudnn_get_version=lambda: 91000), raising=True)


@pytest.fixture(scope="module")
def optimised():
    """For claims about the programs that users run: XLA does all it can."""
    settle("jax_disable_most_optimizations", False)
    jax.clear_caches()
    yield
    settle("jax_disable_most_optimizations", True)
    jax.clear_caches()
