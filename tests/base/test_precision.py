"""base.precision and engine.device: `auto` becomes a format by what the device can run; what it cannot is refused."""

import pytest
import torch

from base.errors import BadInput
from base.precision import Precision, WantedPrecision, choose_precision
from engine.device import Device


@pytest.mark.parametrize(
    ("wanted", "kind", "has_bf16", "chosen"),
    [
        ("auto", "cuda", True, "bf16"),
        ("auto", "cuda", False, "fp32"),
        ("auto", "cpu", True, "fp32"),
        ("auto", "mps", True, "fp32"),
        ("fp32", "cuda", True, "fp32"),
        ("bf16", "cpu", True, "bf16"),
    ],
)
def test_want_and_device_give_the_format(wanted: WantedPrecision, kind: str, has_bf16: bool, chosen: Precision) -> None:
    assert choose_precision(wanted, kind, "a name", has_bf16) == chosen


def test_a_gpu_without_bf16_is_named_where_it_is_demanded(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Device(torch.device("cuda"))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "Tesla T4")
    for has_bf16, chosen in ((False, "fp32"), (True, "bf16")):
        monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation, has=has_bf16: has)
        assert gpu.precision("auto") == chosen
    assert gpu.precision("bf16") == "bf16"
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: including_emulation)
    with pytest.raises(
        BadInput, match="precision bf16: 1 x cuda .Tesla T4. has no bf16; use fp32, another GPU .* or a CPU"
    ):
        gpu.precision("bf16")


def test_training_on_a_cpu_runs_in_the_weights_own_format() -> None:
    one = torch.ones(2, 2)
    with Device(torch.device("cpu")).autocast():
        assert (one @ one).dtype is torch.float32
