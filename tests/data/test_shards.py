"""data.shards: what is written is read back; what is not a whole shard is refused."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import BadInput
from data.shards import SHARD_MAGIC, ShardWriter, TokenStream, header, open_shard

BOS, EOS = 1, 2


def token_lists(low: int, high: int) -> st.SearchStrategy[list[list[int]]]:
    return st.lists(st.lists(st.integers(low, high), max_size=7), min_size=1, max_size=6)


def stream_of(*shards: list[int]) -> TokenStream:
    return TokenStream([np.array(shard, np.uint16) for shard in shards])


def test_a_shard_has_the_contests_exact_bytes(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "train", "golf", 100) as writer:
        writer.write(np.array([1, 500, 65535], np.uint16), np.array([3]))
    expected = struct.pack("<iii", 20240520, 1, 3) + bytes(4 * 253) + struct.pack("<HHH", 1, 500, 65535)
    assert (tmp_path / "train_000000.bin").read_bytes() == expected
    assert open_shard(tmp_path / "train_000000.bin").tolist() == [1, 500, 65535]


def test_shards_are_cut_between_documents(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "val", "golf", 5) as writer:
        writer.write(np.arange(12), np.array([3, 3, 1, 5]))
        writer.write(np.arange(12, 20), np.array([7, 1]))
    shards = [open_shard(tmp_path / entry.file).tolist() for entry in writer.entries]
    assert shards == [[0, 1, 2], [3, 4, 5, 6], [7, 8, 9, 10, 11], list(range(12, 19)), [19]]
    assert [entry.tokens for entry in writer.entries] == [3, 4, 5, 7, 1]


def test_a_shard_still_being_written_does_not_pass_for_a_whole_one(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, "train", "golf", 100)
    writer.write(np.arange(50), np.array([50]))
    writer._stream.flush()
    with pytest.raises(BadInput, match="header says 0 tokens, the file holds 50"):
        open_shard(tmp_path / "train_000000.bin")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "shorter than a shard's 1024-byte header"),
        (header(2)[:1000], "shorter than"),
        (b"\0" * 1024, f"magic 0 is not {SHARD_MAGIC}"),
        (struct.pack(">i", SHARD_MAGIC) + header(0)[4:], "is not a token shard"),
        (header(0)[:4] + struct.pack("<i", 2) + header(0)[8:], "shard version 2"),
        (header(2) + b"\0\0", "header says 2 tokens, the file holds 1"),
        (header(2) + b"\0" * 5, "the file holds 2.5"),
        (header(2) + b"\0" * 6, "the file holds 3"),
        (header(-1), "header says -1 tokens"),
    ],
)
def test_a_damaged_shard_is_refused_in_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "train_000000.bin"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=says):
        open_shard(path)


def test_an_empty_shard_is_read_as_no_tokens(tmp_path: Path) -> None:
    (tmp_path / "val_000000.bin").write_bytes(header(0))
    assert len(open_shard(tmp_path / "val_000000.bin")) == 0


@given(token_lists(0, 9), st.integers(0, 100), st.integers(0, 60))
def test_a_stream_reads_across_shards_and_round_its_end(shards: list[list[int]], start: int, count: int) -> None:
    flat = [token for shard in shards for token in shard]
    stream = stream_of(*shards)
    assert len(stream) == len(flat)
    if flat:
        assert stream.read(start, count).tolist() == [flat[(start + i) % len(flat)] for i in range(count)]


@given(token_lists(2, 9), st.lists(st.integers(0, 40), max_size=4))
def test_documents_come_back_whole_however_the_shards_are_cut(documents: list[list[int]], cuts: list[int]) -> None:
    flat = [token for document in documents for token in (BOS, *document)]
    edges = [0, *sorted(min(cut, len(flat)) for cut in cuts), len(flat)]
    shards = [flat[a:b] for a, b in zip(edges[:-1], edges[1:], strict=True)]
    assert [d.tolist() for d in stream_of(*shards).documents("golf", BOS, EOS)] == documents
    ended = [token for document in documents for token in (*document, BOS)]
    shards = [ended[a:b] for a, b in zip(edges[:-1], edges[1:], strict=True)]
    assert [d.tolist() for d in stream_of(*shards).documents("rscalm", EOS, BOS)] == documents


def test_tokens_outside_any_document_are_an_error() -> None:
    with pytest.raises(BadInput, match="2 tokens before its first document's mark"):
        list(stream_of([5, 6, BOS, 7]).documents("golf", BOS, EOS))
    with pytest.raises(BadInput, match="2 tokens outside any document"):
        list(stream_of([5, 6]).documents("golf", BOS, EOS))
    with pytest.raises(BadInput, match="1 tokens outside any document"):
        list(stream_of([5, BOS, 6]).documents("rscalm", EOS, BOS))


def test_the_rscalm_layout_is_headerless_int32(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "train", "rscalm", 1) as writer:
        writer.write(np.array([7, 2, 9, 8, 2], np.uint16), np.array([2, 3]))
    assert (tmp_path / "train.bin").read_bytes() == struct.pack("<5i", 7, 2, 9, 8, 2)
    assert open_shard(tmp_path / "train.bin", "rscalm").tolist() == [7, 2, 9, 8, 2]
    (tmp_path / "val.bin").write_bytes(b"12345")
    with pytest.raises(BadInput, match="not a whole number of int32"):
        open_shard(tmp_path / "val.bin", "rscalm")
