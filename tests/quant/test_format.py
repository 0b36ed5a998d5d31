"""quant.format and quant.unpack: what is written comes back, goldens never change, and no bytes can hurt the reader."""

import hashlib
import json
import resource
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from base.config import to_dict
from base.errors import BadInput
from data.tokenizer import ByteTokenizer
from model.config import ModelConfig
from model.gpt import GPT, parameter_kind
from quant.coder import decode_zstd, encode_zstd
from quant.config import Codec
from quant.dequant import Grid
from quant.format import MAGIC, PREFIX, VERSION, PackedTensor, read_artifact, read_head, write_artifact
from quant.rounding import absmax, nearest
from quant.unpack import from_bytes

GOLDEN = Path(__file__).parents[1] / "golden"
TOKENIZER = ByteTokenizer()
SHAPE = {
    "vocab_size": TOKENIZER.vocab_size, "layers": 2, "dim": 16, "heads": 2, "kv_heads": 1, "smear": "static",
    "bigram_buckets": 8, "bigram_dim": 4, "skips": "plain", "q_gain": 1.5,
}  # fmt: skip
CONFIG = ModelConfig(**SHAPE)


def tensors() -> list[PackedTensor]:
    """Every form of a tensor, of numbers that do not depend on the version of a random generator."""
    found = []
    for number, (name, parameter) in enumerate(GPT(CONFIG).named_parameters()):
        count = parameter.numel()
        values = (((np.arange(count) * 7919 + number) % 211 - 105) ** 3 / 1e6).astype(np.float32)
        weight, kind = values.reshape(tuple(parameter.shape)), parameter_kind(name, parameter)
        if kind == "control":
            dtype = np.float16 if number % 2 else np.float32
            found.append(PackedTensor(name, kind, weight.shape, 16 if number % 2 else 32, weight.astype(dtype), None))
        elif kind == "mlp":
            rows = (np.arange(weight.shape[0]) % 5 - 2).astype(np.int8)
            columns = (np.arange(weight.shape[1]) % 7 - 3).astype(np.int8) if number % 2 else None
            grid = Grid(step=0.25, row_exponents=rows, column_exponents=columns, trellis=number % 3 == 0)
            integers = np.clip(np.rint(weight / 0.25), -127, 127).astype(np.int8)
            found.append(PackedTensor(name, kind, weight.shape, 8, integers, grid))
        else:
            grid = absmax(torch.from_numpy(weight), 6)
            integers = nearest(torch.from_numpy(weight), grid, 6).numpy()
            found.append(PackedTensor(name, kind, weight.shape, 6, integers, grid))
    return found


def header() -> dict[str, Any]:
    """Of the fields that are set: the golden bytes do not change when the model space grows."""
    return {"config": {"model": SHAPE}, "data_sha256": "d" * 64}


def artifact(codec: Codec = "best") -> bytes:
    return write_artifact(tensors(), header(), TOKENIZER.model, codec)


@pytest.mark.parametrize("codec", ["zstd", "ans", "best"])
def test_what_is_written_comes_back_to_the_last_bit(codec: Codec) -> None:
    data = artifact(codec)
    contents = read_artifact(data)
    assert (contents.header.model, contents.header.data_sha256) == (CONFIG, "d" * 64)
    assert contents.tokenizer == TOKENIZER.model
    for mine, back in zip(tensors(), contents.tensors, strict=True):
        assert mine.form == back.form
        assert mine.values.dtype == back.values.dtype
        assert np.array_equal(mine.values, back.values)
        assert np.array_equal(mine.weights(), back.weights())
    assert read_head(data) == replace(contents, tensors=[])
    assert len(artifact("best")) <= len(data)
    dead = [replace(tensor, values=np.zeros_like(tensor.values)) for tensor in tensors()]  # as untrained outputs are
    assert not read_artifact(write_artifact(dead, header(), TOKENIZER.model, codec)).tensors[-1].weights().any()


def weights_sha256(data: bytes) -> str:
    found = hashlib.sha256()
    for name, parameter in from_bytes(data).model.named_parameters():
        found.update(name.encode() + parameter.detach().numpy().astype("<f4").tobytes())
    return found.hexdigest()


def test_golden_artifacts_are_written_and_read_bit_for_bit() -> None:
    """Whoever changes these bytes changes the format: VERSION rises, and the older goldens still open."""
    assert VERSION == 2
    codecs: tuple[Codec, ...] = ("zstd", "ans")
    for codec in codecs:
        golden = (GOLDEN / f"{codec}.golf").read_bytes()
        assert artifact(codec) == golden
        assert weights_sha256(golden) == (GOLDEN / "weights.sha256").read_text().strip()
    assert weights_sha256((GOLDEN / "v1.golf").read_bytes()) == (GOLDEN / "v1.sha256").read_text().strip()


def sealed(body: bytes) -> bytes:
    return body + hashlib.sha256(body).digest()


def rebuilt(change: dict[str, Any] | None = None, table: Any = None) -> bytes:
    """The artifact with a changed header and a valid checksum: what an adversary would send."""
    data = artifact("ans")
    _, _, length, plain = PREFIX.unpack_from(data)
    values = json.loads(decode_zstd(data[PREFIX.size : PREFIX.size + length], plain))
    values |= change or {}
    if table:
        table(values)
    text = json.dumps(values).encode()
    packed = encode_zstd(text)
    return sealed(PREFIX.pack(MAGIC, VERSION, len(packed), len(text)) + packed + data[PREFIX.size + length : -32])


def test_a_false_header_is_refused_in_one_line_and_takes_no_memory() -> None:
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def shape(value: Any) -> Any:
        return lambda values: values["tensors"][0].__setitem__(2, value)

    def stream(at: int, value: Any) -> Any:
        return lambda values: values["streams"][1].__setitem__(at, value)

    def form(at: int, value: Any) -> Any:
        return lambda values: next(row for row in values["tensors"] if row[4]).__setitem__(at, value)

    hostile = [
        ({}, shape([1 << 40, 1])), ({}, shape([-1, 5])), ({}, shape([1 << 20, 1 << 20])), ({}, shape("x")),
        ({}, shape([1.5, 2])), ({}, shape([0, 1 << 30])), ({}, stream(3, -5)), ({}, stream(3, 1 << 40)),
        ({}, stream(2, 1 << 40)), ({}, stream(2, -1)), ({}, stream(1, "lzma")), ({}, stream(0, "tokenizer")),
        ({"tensors": []}, None), ({"streams": []}, None), ({"tensors": None}, None), ({"streams": {"a": 1}}, None),
        ({"config": {}}, None), ({"config": {"model": {"layers": 10**9}}}, None), ({"config": None}, None),
        ({"config": {"model": to_dict(CONFIG) | {"loop_repeats": 10**9, "loop_last": 1}}}, None),
        ({"config": {"model": to_dict(CONFIG) | {"dim": 32}}}, None),
        ({"config": {"model": to_dict(CONFIG) | {"wings": 2}}}, None),
        ({"config": {"model": to_dict(CONFIG) | {"heads": 10**30, "kv_heads": 7}}}, None),
        ({"config": {"model": to_dict(CONFIG) | {"mlp_mult": 1e308}}}, None),
        ({"config": {"model": to_dict(CONFIG) | {"mlp_mult": float("nan")}}}, None),
        ({"config": {"model": to_dict(CONFIG) | {"vocab_size": json.loads("[" * 700 + "]" * 700)}}}, None),
        ({}, form(2, [2147483647, 0])), ({}, form(5, [0])), ({}, form(6, "a")), ({}, form(7, -1)), ({}, form(8, 2)),
        ({}, form(4, "nan")), ({}, form(4, (1e300).hex())),
        ({"x": float("inf")}, None), ({}, form(4, "inf")), ({}, form(4, "one")), ({}, form(1, "wings")),
        ({}, stream(0, "a\n\x1b[31mb")),
    ]  # fmt: skip
    for change, table in hostile:
        with pytest.raises(BadInput) as refused:
            from_bytes(rebuilt(change, table))
        assert str(refused.value).isprintable(), (change, table)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_kb < 200_000


def test_wrong_magic_version_length_and_tokenizer_are_named() -> None:
    data = artifact()
    assert len(read_artifact(DATA).tensors) == 5
    for broken, says in (
        (b"", "too short"),
        (b"GGUF" + data[4:], "not an artifact"),
        (sealed(data[:4] + struct.pack("<H", 9) + data[6:-32]), "version 9"),
        (data[:-1], "damaged"),
        (data + b"x", "damaged"),
        (sealed(data[:-33]), "malformed"),
        (sealed(data[:-32] + b"trailing"), "8 bytes follow"),
        (write_artifact(tensors(), header(), b'{"a":' * 100_000, "zstd"), "malformed"),  # a tokenizer of endless depth
    ):
        with pytest.raises(BadInput, match=says):
            from_bytes(broken)


DATA = write_artifact(tensors()[2:7], {"config": {"model": {}}}, b"a tokenizer", "ans")  # small: read very often


def damaged(way: str, at: int, inserted: bytes, resealed: bool) -> bytes:
    body = bytearray(DATA[:-32])
    if way == "flip":
        body[at] ^= inserted[0] or 1
    elif way == "cut":
        del body[at : at + inserted[0] + 1]
    else:
        body[at : at + (len(inserted) if way == "splice" else 0)] = inserted
    return sealed(bytes(body)) if resealed else bytes(body) + DATA[-32:]


damaged_files = st.builds(
    damaged,
    st.sampled_from(["flip", "cut", "splice", "insert"]),
    st.integers(0, len(DATA) - 33),
    st.binary(min_size=1, max_size=8),
    st.booleans(),
)


def require_refused_or_harmless(broken: bytes) -> None:
    """One line, or other weights and not many more."""
    try:
        back = read_artifact(broken)
    except BadInput as refused:
        assert "\n" not in str(refused)
    else:
        assert sum(tensor.values.size for tensor in back.tensors) <= 1024 * len(DATA)


@settings(max_examples=300)
@given(damaged_files)
def test_a_damaged_file_is_refused_or_harmless(broken: bytes) -> None:
    require_refused_or_harmless(broken)


@pytest.mark.slow
@settings(max_examples=10_000, suppress_health_check=list(HealthCheck))
@given(damaged_files)
def test_ten_thousand_damaged_files_are_refused_or_harmless(broken: bytes) -> None:
    require_refused_or_harmless(broken)
