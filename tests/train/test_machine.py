import json

import jax
import pytest

import gptjax
from gptjax.train.machine import environment, mfu, peak_flops


@pytest.mark.parametrize(
    ("kind", "flops"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-40GB", 312e12),
        ("NVIDIA B200", 2250e12),
        ("TPU v4", 275e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5", 459e12),
        ("TPU v5p", 459e12),
        ("TPU v6 lite", 918e12),
        ("cpu", None),
        ("NVIDIA GeForce RTX 3090", None),
    ],
)
def test_peak_flops_are_the_data_sheets(kind, flops):
    assert peak_flops(kind) == flops


def test_utilisation_is_the_share_of_the_peak_and_none_where_that_is_unknown():
    assert mfu(855e6, 500_000, 989e12) == pytest.approx(0.43225, rel=1e-4)
    assert mfu(855e6, 500_000, None) is None


def test_the_environment_names_what_a_run_stood_on_and_not_the_machine(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    found = json.loads(json.dumps(environment()))
    assert found["jax"] == jax.__version__
    assert found["gptjax"] == gptjax.__version__
    assert found["device_count"] == jax.device_count()
    assert found["devices"] == [jax.devices()[0].device_kind]
    assert found["xla_flags"] == "--xla_cpu_enable_fast_math=false"
    assert not {"hostname", "node", "user"} & set(found)
