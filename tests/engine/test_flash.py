"""engine/flash.py: which kernel attention runs on, and why."""

import importlib.util
from unittest.mock import Mock, call

import pytest
import torch

from engine.flash import PLAIN_KERNEL, WHEEL, activate_flash


@pytest.mark.parametrize(
    ("capability", "error", "used"),
    [
        (9, None, "FlashAttention 3"),
        (9, ImportError("undefined symbol: x\nmore"), f"{PLAIN_KERNEL} ({WHEEL} does not load: undefined symbol: x)"),
        (8, AssertionError("not reached"), "this is 8"),
    ],
)
def test_a_hopper_with_the_wheel_has_flash_attention_3(
    capability: int, error: Exception | None, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    activate = Mock(side_effect=error)
    monkeypatch.setattr("engine.flash.activate_flash_attention_impl", activate)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name == WHEEL else None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (capability, 0))
    assert used in activate_flash(torch.device("cuda"))
    assert activate.call_args_list == ([call("FA3")] if capability == 9 else [])
    assert activate_flash(torch.device("cpu")) == PLAIN_KERNEL
