"""A trained model and its data -> the bytes of `model.golf`. No files, no flags: pack and the training's end call it.

packed = Packer(model, resolved_config, dataset).pack(QuantConfig(method="rate"))       packed.data is the artifact
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch

from base.errors import BadInput
from data.dataset import Dataset
from data.shards import TokenStream
from model.gpt import GPT, parameter_kind
from quant.budget import Widths, fit_dial, fit_widths, width_options
from quant.config import QuantConfig
from quant.format import PackedTensor, write_artifact
from quant.hessian import Cost, measure
from quant.quantize import quantize

BATCH = 8  # windows of a calibration batch


@dataclass(frozen=True)
class Packed:
    quant: QuantConfig  # as chosen
    data: bytes
    tensors: list[PackedTensor]


class Packer:
    """Measures the model once, on training text alone, and packs it as often as needed."""

    def __init__(self, model: GPT, config: dict[str, Any], dataset: Dataset) -> None:
        """`config` is the run's resolved one; it goes into the artifact."""
        self.model = model
        self.dataset = dataset
        self._seq_len = int(config["train"]["seq_len"])
        self._header = {
            "config": config,
            "data_sha256": dataset.manifest.data_sha256(),
            "tokenizer_sha256": dataset.manifest.tokenizer.sha256,
        }
        self._costs = dict[int, dict[str, Cost]]()  # by calibration tokens

    @staticmethod
    def require(model: GPT, quant: QuantConfig, counted_bytes: int) -> None:
        """Refuse before a training what could not be packed after it."""
        quant.plan.require({name: str(parameter_kind(name, p)) for name, p in model.named_parameters()})
        if quant.cap_bytes and quant.cap_bytes <= counted_bytes:
            raise BadInput(f"a cap of {quant.cap_bytes:,} bytes: the code alone takes {counted_bytes:,}; raise the cap")

    def pack(self, quant: QuantConfig, counted_bytes: int = 0) -> Packed:
        """As `quant` says; under its cap, if it has one, beside the bytes that count as well (the code's)."""
        self.require(self.model, quant, counted_bytes)
        return self._fit(quant, quant.cap_bytes - counted_bytes) if quant.cap_bytes else self._pack(quant)

    def _pack(self, quant: QuantConfig) -> Packed:
        tensors = quantize(self.model, quant, self._measured(quant) if quant.is_calibrated else None)
        data = write_artifact(tensors, self._header, self.dataset.tokenizer.model, quant.codec)
        return Packed(quant, data, tensors)

    def _fit(self, quant: QuantConfig, cap_bytes: int) -> Packed:
        """The least loss that fits: by the dial, or by widths of the tensors that `quant.bits` leaves free."""
        pack = cache(self._pack)  # other estimates may lead to the same widths
        if quant.method in ("rate", "sigma"):
            weights = sum(p.numel() for p in self.model.parameters())
            dial = fit_dial(lambda dial: len(pack(replace(quant, dial=dial)).data), cap_bytes, weights, quant.dial)
            return pack(replace(quant, dial=dial))

        def with_widths(widths: Widths) -> QuantConfig:
            return replace(quant, bits=",".join([*(f"{name}={bits}" for name, bits in widths.items()), quant.bits]))

        options = width_options(self.model, quant, self._measured(quant))
        widths = fit_widths(options, lambda widths: len(pack(with_widths(widths)).data), cap_bytes)
        return pack(with_widths(widths))

    def _measured(self, quant: QuantConfig) -> dict[str, Cost]:
        tokens = quant.calibration_tokens
        if tokens not in self._costs:
            batches = calibration_batches(self.dataset.train, self._seq_len, tokens)
            device = next(self.model.parameters()).device
            self._costs[tokens] = measure(self.model, (batch.to(device) for batch in batches))
        return self._costs[tokens]


def calibration_batches(stream: TokenStream, seq_len: int, tokens: int) -> Iterator[torch.Tensor]:
    """(B, T) batches from all over the training side, evenly spread."""
    windows = min(max(1, tokens // seq_len), max(1, len(stream) // seq_len))
    starts = np.linspace(0, len(stream) - seq_len, windows).astype(np.int64)
    for first in range(0, windows, BATCH):
        rows = [stream.read(int(start), seq_len).astype(np.int64) for start in starts[first : first + BATCH]]
        yield torch.from_numpy(np.stack(rows))
