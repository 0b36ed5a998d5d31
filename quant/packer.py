"""A trained model and its data -> the bytes of `model.golf`. No files, no flags: pack and the training's end call it.

packed = Packer(model, resolved_config, dataset).pack(QuantConfig(method="rate"))       packed.data is the artifact
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from base.errors import BadInput
from data.dataset import Dataset
from data.shards import TokenStream
from engine.device import Device, gather
from model.gpt import GPT, parameter_kind
from quant.budget import Widths, fit_dial, fit_widths, width_options
from quant.coder import entropy_bits
from quant.config import QuantConfig
from quant.format import PackedTensor, write_artifact
from quant.hessian import Cost, measure
from quant.quantize import ALONE, quantize

BATCH = 8  # windows of a calibration batch


@dataclass(frozen=True)
class Packed:
    quant: QuantConfig  # as chosen
    data: bytes  # on the main rank; the others have none
    size_bytes: int
    tensors: list[PackedTensor]


class Packer:
    """Measures the model once, on training text alone, and packs it as often as needed. All ranks hold one, and call
    `pack` together."""

    def __init__(self, model: GPT, config: dict[str, Any], dataset: Dataset, device: Device = ALONE) -> None:
        """`config` is the run's resolved one; it goes into the artifact. The main rank's weights count."""
        self.model = model
        self.dataset = dataset
        self.device = device
        self._seq_len = int(config["train"]["seq_len"])
        self._header = {
            "config": config,
            "data_sha256": dataset.manifest.data_sha256(),
            "tokenizer_sha256": dataset.manifest.tokenizer.sha256,
        }
        self._costs = dict[int, dict[str, Cost]]()  # by calibration tokens
        if device.ranks > 1:
            for parameter in model.parameters():
                dist.broadcast(parameter.detach(), 0)

    @staticmethod
    def require(model: GPT, quant: QuantConfig, counted_bytes: int) -> None:
        """Refuse before a training what could not be packed after it."""
        quant.plan.require({name: str(parameter_kind(name, p)) for name, p in model.named_parameters()})
        if quant.cap_bytes and quant.cap_bytes <= counted_bytes:
            raise BadInput(f"a cap of {quant.cap_bytes:,} bytes: the code alone takes {counted_bytes:,}; raise the cap")

    def pack(self, quant: QuantConfig, counted_bytes: int = 0) -> Packed:
        """As `quant` says; solved for its cap, if it has one, beside the bytes that count as well (the code's)."""
        self.require(self.model, quant, counted_bytes)
        if quant.cap_bytes and quant.solve:
            return self._fit(quant, quant.cap_bytes - counted_bytes)
        return self._pack(quant)

    def _pack(self, quant: QuantConfig) -> Packed:
        return self._encode(quant, self._quantize(quant))

    def _encode(self, quant: QuantConfig, tensors: list[PackedTensor]) -> Packed:
        data = b""
        if self.device.main:
            data = write_artifact(tensors, self._header, self.dataset.tokenizer.model, quant.codec)
        return Packed(quant, data, gather(len(data), self.device)[0], tensors)

    def _quantize(self, quant: QuantConfig) -> list[PackedTensor]:
        return quantize(self.model, quant, self._measured(quant) if quant.is_calibrated else None, self.device)

    def _fit(self, quant: QuantConfig, cap_bytes: int) -> Packed:
        """The least loss that fits: by the dial, or by widths of the tensors that `quant.bits` leaves free. All ranks
        search with the main rank's figures, so that they make the same tries."""
        pack = cache(self._pack)  # other estimates may lead to the same widths
        # zstd-22 takes most of a pack's time and is hardly ever the smaller: what is tried does without it.
        tried = replace(quant, codec="ans") if quant.codec == "best" else quant

        def entropy_bytes(dial: float) -> float:
            """Of plain rounding, which takes a small part of a pack's time."""
            tensors = self._quantize(replace(quant, dial=dial, feedback=False, trellis=False))
            bits = sum(entropy_bits(tensor.values) for tensor in tensors if tensor.grid is not None)
            return gather(bits / 8, self.device)[0]

        def with_widths(widths: Widths) -> QuantConfig:
            return replace(tried, bits=",".join([*(f"{name}={bits}" for name, bits in widths.items()), quant.bits]))

        if quant.method in ("rate", "sigma"):
            dial = fit_dial(entropy_bytes, lambda dial: pack(replace(tried, dial=dial)).size_bytes, cap_bytes)
            found = pack(replace(tried, dial=dial))
        else:
            options = gather(width_options(self.model, quant, self._measured(quant)), self.device)[0]
            widths = fit_widths(options, lambda widths: pack(with_widths(widths)).size_bytes, cap_bytes)
            found = pack(with_widths(widths))
        if tried is quant:
            return found
        return self._encode(replace(found.quant, codec=quant.codec), found.tensors)

    def _measured(self, quant: QuantConfig) -> dict[str, Cost]:
        tokens = quant.calibration_tokens
        if tokens not in self._costs:
            batches = calibration_batches(self.dataset.train, self._seq_len, tokens)
            place = next(self.model.parameters()).device
            self._costs[tokens] = measure(self.model, (batch.to(place) for batch in batches), self.device)
        return self._costs[tokens]


def calibration_batches(stream: TokenStream, seq_len: int, tokens: int) -> Iterator[torch.Tensor]:
    """(B, T) batches from all over the training side, evenly spread."""
    windows = min(max(1, tokens // seq_len), max(1, len(stream) // seq_len))
    starts = np.linspace(0, len(stream) - seq_len, windows).astype(np.int64)
    for first in range(0, windows, BATCH):
        rows = [stream.read(int(start), seq_len).astype(np.int64) for start in starts[first : first + BATCH]]
        yield torch.from_numpy(np.stack(rows))
