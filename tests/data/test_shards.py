"""Claims about the progress of a build."""

from gptjax.data import shards


def test_a_long_build_says_how_far_it_is(capsys):
    tell = shards.told(every_seconds=0.0)
    tell("train", 12_000_000, 3_400_000)
    assert "store: train: 12 MB of text, 3.4M tokens" in capsys.readouterr().err


def test_a_short_build_says_nothing(capsys):
    shards.told(every_seconds=60.0)("train", 12_000_000, 3_400_000)
    assert capsys.readouterr().err == ""
