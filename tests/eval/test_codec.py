"""eval.codec: any file comes back byte for byte, its length is the model's, and nothing else gets through."""

import dataclasses
import json
import math
import re
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
from eval.any_bytes import to_tokens
from eval.batches import window_losses
from eval.codec import compress, decompress
from eval.codec_format import read, write
from eval.windows import plan_windows
from quant.unpack import Artifact, from_bytes
from tests.conftest import make_text
from tests.eval.tiny import CONTEXT, tiny_artifact, written

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def artifacts(tokenizer: SentencePieceTokenizer) -> list[Artifact]:
    return [from_bytes(tiny_artifact(kind)) for kind in (ByteTokenizer(), tokenizer)]


def check(artifact: Artifact, data: bytes, stride: int | None = None) -> None:
    out, answer = compress(artifact, data, stride, None)
    assert decompress(artifact, read(out)) == data
    bits = answer["model_nats"] / math.log(2)
    assert bits - 1 < 8 * len(out) < 1.001 * bits + 8 * 64
    assert answer["overhead_bits"] == pytest.approx(8 * len(out) - bits)


@settings(max_examples=15, deadline=None)
@given(data=st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_any_bytes_come_back_at_the_models_cost(artifacts: list[Artifact], data: bytes) -> None:
    for artifact in artifacts:
        check(artifact, data)


@pytest.mark.parametrize(
    "data",
    [b"", b"a", bytes(150), b"\xff" * 50, b"\xed\xa0\x80" + bytes(range(0, 256, 3)), b"ab" * 80, "▁ 🙂\r\n".encode()],
)
def test_odd_files_come_back(artifacts: list[Artifact], data: bytes) -> None:
    for artifact in artifacts:
        check(artifact, data)
    check(artifacts[0], data[:60], stride=3)


def test_under_the_scores_rule_a_file_is_as_long_as_its_score(artifacts: list[Artifact]) -> None:
    text = make_text(3, 40).encode()
    for artifact in artifacts:
        tokens = to_tokens(text, artifact.tokenizer, ByteTable(artifact.tokenizer))
        stream = np.concatenate([[artifact.tokenizer.bos_id], tokens])
        for context, stride in ((CONTEXT, 4), (11, 11)):
            out, answer = compress(artifact, text, stride, context)
            plan = plan_windows(len(stream) - 1, context, stride)
            nats = math.fsum(float(n.sum()) for _, n in window_losses(artifact.model, stream, plan, 999))
            assert answer["model_nats"] == pytest.approx(nats, rel=1e-6)
            assert abs(8 * len(out) - nats / math.log(2)) < 0.001 * nats / math.log(2) + 8 * 64
            assert (answer["rows"], answer["stride"], answer["context"]) == (1, stride, context)
            assert decompress(artifact, read(out)) == text


def test_other_arithmetic_is_refused_and_says_what_differs(
    artifacts: list[Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = make_text(4, 50).encode()
    out, _ = compress(artifacts[0], text, None, None)
    other = from_bytes(tiny_artifact(ByteTokenizer()))
    with torch.no_grad():
        other.model.blocks[0].mlp.up.weight.mul_(1 + 2e-6)  # as another processor's rounding would
    with pytest.raises(BadInput, match="are the same, so it is another make of processor"):
        decompress(other, read(out))
    monkeypatch.setattr(codec, "environment", lambda: "9.9.9 NEON")
    with pytest.raises(BadInput, match=rf"there it was '{re.escape(torch.__version__)} \w+', here it is '9.9.9 NEON'"):
        decompress(other, read(out))
    assert decompress(artifacts[0], read(out)) == text  # it is the forecasts that count, not the names


@pytest.mark.parametrize(
    "forged",
    [
        {"tokens": 10**15, "size_bytes": 10**15}, {"tokens": 0}, {"tokens": 500}, {"size_bytes": 0}, {"rows": 0},
        {"rows": 10**12}, {"rows": 2}, {"context": 10**15}, {"context": CONTEXT + 1}, {"stride": 0}, {"stride": 17},
        {"streams": []}, {"streams": [b"abc"]}, {"streams": [bytes(8)] * 2}, {"streams": [b"\xff" * 8]},
        {"text": b"8 bytes."}, {"tokens": 199, "size_bytes": 200},
    ],
    ids=str,
)  # fmt: skip
def test_forged_numbers_are_refused_without_much_memory(artifacts: list[Artifact], forged: dict[str, object]) -> None:
    out, _ = compress(artifacts[0], b"abcde" * 40, None, None)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadInput):
        decompress(artifacts[0], read(write(dataclasses.replace(read(out), **forged))))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB


def codec_in_a_process(*words: object, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "eval.codec", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, input=data, capture_output=True)


def test_a_file_comes_back_in_a_process_that_has_only_the_artifact(
    tmp_path: Path, tokenizer: SentencePieceTokenizer
) -> None:
    source, small, again = ROOT / "requirements.txt", tmp_path / "small", tmp_path / "again"
    artifact, text = written(tmp_path, tokenizer), source.read_bytes()
    done = codec_in_a_process("compress", "--json", artifact, "-", small, data=text)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout).keys() >= {"in_bytes", "out_bytes", "bpb", "model_nats", "seconds"}
    done = codec_in_a_process("decompress", tmp_path, small, "-")  # the run's folder will do
    assert done.stdout == text
    assert codec.run(codec.parser(), codec.act, codec.show, ["decompress", str(artifact), str(small), str(again)]) == 0
    assert again.read_bytes() == text


def said(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line of a command that refuses."""
    assert codec.run(codec.parser(), codec.act, codec.show, list(map(str, words))) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.count("\n") == 1, found.err
    return found.err


def test_what_cannot_be_is_refused_in_one_line_and_writes_nothing(
    tmp_path: Path, tokenizer: SentencePieceTokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact, text, out = written(tmp_path, tokenizer), tmp_path / "text", tmp_path / "out"
    text.write_bytes(b"some text")
    for flags, line in (
        (("--stride", 0), "use 1 to 16"), (("--stride", 17), "use 1 to 16"), (("--context", 17), "context of 1 to 16"),
        (("--context", 0), "context of 1 to 16"),
    ):  # fmt: skip
        assert line in said(capsys, "compress", artifact, text, out, *flags)
    assert "[ARTIFACT] IN OUT" in said(capsys, "compress", text)
    assert "both want stdout" in said(capsys, "compress", "--json", artifact, text, "-")
    assert "not a compressed file" in said(capsys, "decompress", artifact, text, out)
    assert "No such file" in said(capsys, "compress", artifact, tmp_path / "none", out)
    small = tmp_path / "small"
    small.write_bytes(compress(from_bytes(artifact.read_bytes()), b"some text", None, None)[0])
    assert "says its own rule" in said(capsys, "decompress", artifact, small, out, "--stride", 4)
    small.write_bytes(small.read_bytes()[:-1])
    assert "damaged or cut short" in said(capsys, "decompress", artifact, small, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.golf", "small", "text"]


def test_a_file_for_another_artifact_is_refused_by_name(
    tmp_path: Path, tokenizer: SentencePieceTokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tmp_path / "small"
    made = from_bytes(tiny_artifact(tokenizer, seed=1))
    small.write_bytes(compress(made, b"some text", None, None)[0])
    line = said(capsys, "decompress", written(tmp_path, tokenizer), small, tmp_path / "out")
    assert f"compressed with the artifact {made.sha256[:16]}" in line
    assert not (tmp_path / "out").exists()
