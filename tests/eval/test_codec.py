"""eval.codec: any file comes back byte for byte, its length is the model's, and other files are refused."""

import dataclasses
import math
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from base.errors import BadInput
from data.bytes import ByteTable
from data.tokenizer import ByteTokenizer, SentencePieceTokenizer
from eval import codec
from eval.adapt import ModelScorer
from eval.any_bytes import to_tokens
from eval.codec import compress, decompress
from eval.codec_format import Rule, read, write
from eval.config import AdaptConfig
from eval.lm_coder import MOST_ROW_TOKENS
from eval.protocol import Protocol
from quant.unpack import Artifact, from_bytes
from tests.conftest import make_text
from tests.eval.tiny import CONTEXT, tiny_artifact, written
from tests.runs import ROOT, refusal


@pytest.fixture(scope="module")
def artifacts(tokenizer: SentencePieceTokenizer) -> list[Artifact]:
    made = [tiny_artifact(ByteTokenizer()), tiny_artifact(tokenizer), tiny_artifact(tokenizer, canonical=True)]
    return [from_bytes(data) for data in made]


def check(artifact: Artifact, data: bytes, stride: int | None = None, adapt: str = "off") -> None:
    out, nats = compress(artifact, data, stride, adapt=adapt)
    assert decompress(artifact, out) == data
    bits = nats / math.log(2)
    assert bits - 1 < 8 * len(out) < 1.001 * bits + 8 * 64


@settings(max_examples=15)
@given(data=st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_any_bytes_come_back_at_the_models_cost(artifacts: list[Artifact], data: bytes) -> None:
    for artifact in artifacts:
        check(artifact, data)


def test_unusual_files_come_back(artifacts: list[Artifact]) -> None:
    surrogates = b"\xed\xa0\x80" + bytes(range(0, 256, 3))
    for data in (b"", b"a", bytes(150), b"\xff" * 50, surrogates, b"ab" * 80, "▁ 🙂\r\n".encode()):
        for artifact in artifacts:
            check(artifact, data)
        check(artifacts[0], data[:60], stride=3)


def test_a_file_that_teaches_comes_back_and_is_as_long_as_the_mixed_score(artifacts: list[Artifact]) -> None:
    text = make_text(4, 300).encode()
    for artifact in artifacts:
        check(artifact, text, adapt="mix")
        check(artifact, text[:200] + bytes(range(256)), stride=4, adapt="mix")
    made = artifacts[1]
    tokens = to_tokens(text, made.tokenizer, ByteTable(made.tokenizer))
    protocol = Protocol(CONTEXT, 4, adapt=AdaptConfig(kind="mix"))
    scored = ModelScorer(made.model, made.tokenizer, protocol).score(np.append(made.tokenizer.bos_id, tokens))
    assert compress(made, text, 4, adapt="mix")[1] == pytest.approx(scored.nats.sum(), rel=1e-5)
    assert scored.nats.sum() < compress(made, text, 4)[1]


def test_other_arithmetic_is_refused_by_name(artifacts: list[Artifact], monkeypatch: pytest.MonkeyPatch) -> None:
    text = make_text(4, 50).encode()
    out, _ = compress(artifacts[0], text)
    other = from_bytes(tiny_artifact(ByteTokenizer()))
    with torch.no_grad():
        other.model.blocks[0].mlp.up.weight.mul_(1 + 2e-6)  # as another processor's rounding would
    with pytest.raises(BadInput, match="on another make of processor than here"):
        decompress(other, out)
    monkeypatch.setattr(codec, "environment", lambda: "torch 9.9, processor NEON")
    with pytest.raises(
        BadInput, match="another torch or processor than here .torch 9.9, processor NEON.; decompress it"
    ):
        decompress(other, out)
    assert decompress(artifacts[0], out) == text  # only the predictions count, not the names


def test_forged_numbers_are_refused_without_much_memory(artifacts: list[Artifact]) -> None:
    out, _ = compress(artifacts[0], b"abcde" * 40)
    most = 2**32 - 1
    rule = Rule(CONTEXT, CONTEXT // 2, 1)
    forged: list[dict[str, object]] = [
        {"tokens": most, "size_bytes": most}, {"tokens": 0}, {"tokens": 500}, {"size_bytes": 0},
        {"tokens": 199, "size_bytes": 200}, {"text": b"8 bytes."}, {"streams": []}, {"streams": [b"abc"]},
        {"streams": [bytes(8)] * 2}, {"streams": [b"\xff" * 8]}, {"rule": rule._replace(rows=0)},
        {"rule": rule._replace(rows=2)}, {"rule": rule._replace(rows=most)}, {"rule": rule._replace(context=most)},
        {"rule": rule._replace(context=CONTEXT + 1)}, {"rule": rule._replace(stride=0)},
        {"rule": rule._replace(stride=CONTEXT + 1)}, {"rule": rule._replace(table_bits=9)},
        {"rule": rule._replace(table_bits=30)},
        {"rule": rule._replace(rows=64, table_bits=10), "tokens": 1 << 26, "size_bytes": 1 << 26, "streams": [b""] * 2},
        # so many tokens as these bits could encode, in a row whose windows would fill the memory
        {"tokens": 10**8, "size_bytes": 10**8, "rule": rule._replace(stride=1), "streams": [bytes(4000)]},
    ]  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for fields in forged:
        with pytest.raises(BadInput):
            decompress(artifacts[0], write(dataclasses.replace(read(out), **fields)))  # type: ignore[arg-type]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB
    with pytest.raises(BadInput, match="at most 1,048,576 tokens, and the text has 1,048,577; leave it out"):
        compress(artifacts[0], bytes(MOST_ROW_TOKENS + 1), stride=4)


@pytest.mark.slow
def test_a_file_comes_back_in_another_process(tmp_path: Path, tokenizer: SentencePieceTokenizer) -> None:
    artifact = written(tmp_path, tokenizer)
    text, small, again = (tmp_path / name for name in ("text", "small", "again"))
    text.write_text(make_text(5))
    for words in (("compress", artifact, text, small), ("decompress", artifact, small, again)):
        command = [sys.executable, "-m", "eval.codec", *map(str, words)]
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    assert again.read_bytes() == text.read_bytes()


def test_bad_input_is_refused_and_nothing_is_written(tmp_path: Path, tokenizer: SentencePieceTokenizer) -> None:
    artifact, text, out = written(tmp_path, tokenizer), tmp_path / "text", tmp_path / "out"
    text.write_bytes(b"some text")
    for stride in (0, 17):
        assert "use 1 to 16" in refusal("eval.codec", "compress", artifact, text, out, "--stride", stride)
    assert "context of 1 to 16" in refusal("eval.codec", "compress", artifact, text, out, "--context", 17)
    assert "[ARTIFACT] IN OUT" in refusal("eval.codec", "compress", text)
    assert "not a compressed file" in refusal("eval.codec", "decompress", artifact, text, out)
    assert "No such file" in refusal("eval.codec", "compress", artifact, tmp_path / "none", out)
    small = tmp_path / "small"
    small.write_bytes(compress(from_bytes(artifact.read_bytes()), b"some text")[0])
    assert "contains its own rule" in refusal("eval.codec", "decompress", artifact, small, out, "--stride", 4)
    small.write_bytes(small.read_bytes()[:-1])
    assert "damaged or cut short" in refusal("eval.codec", "decompress", artifact, small, out)
    made = from_bytes(tiny_artifact(tokenizer, seed=1))
    small.write_bytes(compress(made, b"some text")[0])
    wrong = refusal("eval.codec", "decompress", artifact, small, out)
    assert f"compressed with the artifact {made.sha256[:16]}" in wrong
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.golf", "small", "text"]
