"""engine/flash.py: which kernel attention runs on, and why."""

import importlib.util

import pytest
import torch

from engine.flash import PLAIN_KERNEL, WHEEL, activate_flash

CUDA = torch.device("cuda")


@pytest.fixture
def hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hopper on which the wheel is installed."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name == WHEEL else None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))


def activating(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> str:
    def activate(name: str) -> None:
        assert name == "FA3"
        if error is not None:
            raise error

    monkeypatch.setattr("engine.flash.activate_flash_attention_impl", activate)
    return activate_flash(CUDA)


def test_a_hopper_with_the_wheel_has_flash_attention_3(hopper: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert activating(monkeypatch, None) == "FlashAttention 3"


def test_a_wheel_that_does_not_load_is_named(hopper: None, monkeypatch: pytest.MonkeyPatch) -> None:
    used = activating(monkeypatch, ImportError("undefined symbol: _ZN3c10\nmore"))
    assert used == f"{PLAIN_KERNEL} (flash_attn_interface does not load: undefined symbol: _ZN3c10)"


def test_other_devices_have_pytorchs_own(hopper: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    assert "this is 8" in activating(monkeypatch, AssertionError("not reached"))
    assert activate_flash(torch.device("cpu")) == PLAIN_KERNEL
