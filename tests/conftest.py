"""What tests share: real processes of gptjax, and a text to train on."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def text(tmp_path_factory) -> Path:
    """A text file of a few kilobytes."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join(f"line {i} says {i * i % 97} and no more.\n" for i in range(400)), encoding="utf-8")
    return path
