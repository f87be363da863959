"""Claims about machines: names are understood or refused, and what a run may fill is what is said."""

import re

import pytest

from gptjax.config import ConfigError
from gptjax.plan import devices, machines


@pytest.mark.parametrize(
    ("name", "count", "chips", "hosts"),
    [
        ("v5e:4x4", 16, 16, 1),
        ("v5p:8x8x8", 512, 512, 1),
        ("v4:2x2x2", 8, 8, 1),
        ("tpu7x:2x2x1", 8, 4, 1),
        ("h200:8", 8, 8, 1),
        ("h100:16", 16, 16, 2),
        ("cpu:4", 4, 4, 1),
    ],
)
def test_a_name_says_how_many_devices_there_are(name, count, chips, hosts):
    topology = machines.parse(name)
    assert (topology.devices, topology.chips, topology.hosts) == (count, chips, hosts)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v5q:4x4", "there is no chip 'v5q', did you mean 'v5p'?"),
        ("h20:8", "there is no chip 'h20', did you mean 'h200'?"),
        ("h200", "says not how many chips, as h200:8 does"),
        ("h200:0", "says not how many chips"),
        ("v5e:16", "v5e has 2 axes, as in v5e:4x4"),
        ("v5p:8x8", "v5p has 3 axes, as in v5p:2x2x1"),
        ("h200:2x4", "h200 has 1 axes, as in h200:8"),
        ("v5e:3x5", "1 or an even number"),
        ("h100:12", "whole hosts of 8"),
    ],
)
def test_a_wrong_topology_is_one_clear_line(name, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        machines.parse(name)
    assert "\n" not in str(caught.value)
    assert f"--topology {name}" in str(caught.value)


def test_missing_packages_are_named_with_the_way_out(monkeypatch):
    monkeypatch.setattr(devices, "GPU_PACKAGES", ("no_such_package.at_all",))
    with pytest.raises(ConfigError, match=r"needs no_such_package.at_all; pip install 'gptjax\[plan\]'"):
        devices.of(machines.parse("h200:8"))


def test_a_gpu_keeps_back_what_jax_does_not_take_and_a_tpu_what_its_system_takes():
    room, said = machines.capacity(machines.parse("h200:8"), None)
    assert (room, "75% of 141 GB" in said) == (105_750_000_000, True)
    assert machines.capacity(machines.parse("h200:8"), 0.9)[0] == 126_900_000_000
    assert machines.capacity(machines.parse("v5e:4x4"), None)[0] == round(15.75 * 2**30)
    with pytest.raises(ConfigError, match="--memory-fraction 75: is not in"):
        machines.capacity(machines.parse("h200:8"), 75)
