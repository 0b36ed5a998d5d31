"""A trained model and its data -> the bytes of `model.golf`. No files, no flags: pack and the training's end call it.

packer = Packer(model, resolved_config, dataset)
packed = packer.pack(QuantConfig(method="rate"))       packed.data is the artifact
packed = packer.fit(config, cap_bytes)                 the dial or the widths of the least loss under a cap
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from base.errors import BadInput
from data.dataset import Dataset
from data.shards import TokenStream
from model.gpt import GPT, parameter_kind
from quant.bits import parse_bits
from quant.budget import Widths, fit, fit_widths
from quant.coder import encode_zstd
from quant.config import QuantConfig
from quant.format import write_artifact
from quant.hessian import Cost, measure
from quant.quantize import quantize
from quant.report import entropy_bits
from quant.stored import Stored
from quant.widths import width_options

ROWS = 8  # windows of a calibration batch


@dataclass(frozen=True)
class Packed:
    quant: QuantConfig  # how
    data: bytes
    tensors: list[Stored]
    stream_bytes: dict[str, int]
    tried: tuple[tuple[float, int], ...] = ()  # dial and bytes of all that were made on the way to a cap


class Packer:
    """Measures the model once, on training text alone, and packs it as often as asked."""

    def __init__(self, model: GPT, config: dict[str, Any], dataset: Dataset) -> None:
        """`config` is the run's resolved one; it goes into the artifact with the hashes of its data."""
        self.model, self.dataset = model, dataset
        self._seq_len = int(config["train"]["seq_len"])
        self._header = {
            "config": config,
            "data_sha256": dataset.manifest.data_sha256(),
            "tokenizer_sha256": dataset.manifest.tokenizer.sha256,
        }
        self._costs: tuple[int, dict[str, Cost]] | None = None

    @staticmethod
    def require(model: GPT, quant: QuantConfig, code_size: int) -> None:
        """Refuse before a training what could not be packed after it."""
        parse_bits(quant.bits).require({name: str(parameter_kind(name, p)) for name, p in model.named_parameters()})
        if quant.cap_bytes and quant.cap_bytes <= code_size:
            raise BadInput(f"quant.cap_bytes {quant.cap_bytes:,}: the code alone takes {code_size:,}; raise the cap")

    def pack(self, quant: QuantConfig) -> Packed:
        tensors = quantize(self.model, quant, self._measured(quant) if quant.calibrated else None)
        written = write_artifact(tensors, self._header, self.dataset.tokenizer.model, quant.codec)
        return Packed(quant, written.data, tensors, written.stream_bytes)

    def packed(self, quant: QuantConfig, code_size: int) -> Packed:
        """As the config says: under its cap, which counts the code as well, or at its dial."""
        return self.fit(quant, quant.cap_bytes - code_size) if quant.cap_bytes else self.pack(quant)

    def fit(self, quant: QuantConfig, cap_bytes: int) -> Packed:
        """The least loss that fits: by the dial, or by widths of the tensors that `quant.bits` leaves free."""
        if cap_bytes <= 0:
            raise BadInput(f"the code alone is {-cap_bytes:,} bytes over the cap")
        made: dict[QuantConfig, Packed] = {}

        def size_of(tried: QuantConfig) -> int:
            made[tried] = self.pack(tried)
            return len(made[tried].data)

        def with_widths(widths: Widths) -> QuantConfig:
            return replace(quant, bits=",".join([*(f"{name}={bits}" for name, bits in widths.items()), quant.bits]))

        if quant.dialled:
            weights = sum(p.numel() for p in self.model.parameters())
            found = fit(lambda dial: size_of(replace(quant, dial=dial)), cap_bytes, weights, quant.dial)
            chosen = made[replace(quant, dial=found.dial)]
        else:
            options = width_options(self.model, quant, self._measured(quant))
            chosen = made[with_widths(fit_widths(options, lambda widths: size_of(with_widths(widths)), cap_bytes))]
        return replace(chosen, tried=tuple((packed.quant.dial, len(packed.data)) for packed in made.values()))

    def foretold(self, packed: Packed) -> dict[str, float]:
        """What each tensor's rounding should cost, in nats a token; empty where nothing was measured."""
        costs, weights = self._costs[1] if self._costs else {}, dict(self.model.named_parameters())
        return {
            tensor.name: costs[tensor.name].nats(tensor.weights() - weights[tensor.name].detach().float().cpu().numpy())
            for tensor in packed.tensors
            if tensor.name in costs
        }

    def _measured(self, quant: QuantConfig) -> dict[str, Cost]:
        wanted = quant.calibration_tokens
        if self._costs is None or self._costs[0] != wanted:
            rows = calibration_rows(self.dataset.train, self._seq_len, wanted)
            device = next(self.model.parameters()).device
            self._costs = (wanted, measure(self.model, (batch.to(device) for batch in rows)))
        return self._costs[1]


def projected_bytes(model: GPT, quant: QuantConfig, tokenizer: bytes) -> int:
    """About what the artifact would take, for a run's live line: entropies at the configured dial, uncalibrated."""
    tensors = quantize(model, quant)  # without costs nothing is fed back
    bits = sum(entropy_bits(t.values) if t.grid is not None else 8 * t.values.nbytes for t in tensors)
    return int(bits / 8) + len(encode_zstd(tokenizer))


def calibration_rows(stream: TokenStream, seq_len: int, tokens: int) -> Iterator[torch.Tensor]:
    """(B, T) batches from all over the training side, evenly spread."""
    windows = min(max(1, tokens // seq_len), max(1, len(stream) // seq_len))
    starts = np.linspace(0, len(stream) - seq_len, windows).astype(np.int64)
    for first in range(0, windows, ROWS):
        rows = [stream.read(int(start), seq_len).astype(np.int64) for start in starts[first : first + ROWS]]
        yield torch.from_numpy(np.stack(rows))
