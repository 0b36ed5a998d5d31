"""data.shards: what is written is read back; what is not a complete shard is refused."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import BadInput
from data.assemble import plan_shards
from data.shards import SHARD_MAGIC, TokenStream, header, open_shard, write_shard

BOS = 1


def token_lists(low: int, high: int) -> st.SearchStrategy[list[list[int]]]:
    return st.lists(st.lists(st.integers(low, high), max_size=7), min_size=1, max_size=6)


def stream_of(*shards: list[int]) -> TokenStream:
    return TokenStream([np.array(shard, np.uint16) for shard in shards])


def test_a_shard_has_the_contests_exact_bytes(tmp_path: Path) -> None:
    path = tmp_path / "train_000000.bin"
    entry = write_shard(path, "train", [np.array([1], np.uint16), np.array([500, 65535], np.uint16)])
    expected = struct.pack("<iii", 20240520, 1, 3) + bytes(4 * 253) + struct.pack("<HHH", 1, 500, 65535)
    assert path.read_bytes() == expected
    assert open_shard(path).tolist() == [1, 500, 65535]
    assert (entry.tokens, [each.name for each in tmp_path.iterdir()]) == (3, ["train_000000.bin"])


@given(st.lists(st.lists(st.integers(1, 9), max_size=6), min_size=1, max_size=5), st.integers(1, 12))
def test_shards_are_cut_between_documents_whatever_part_they_are_of(parts: list[list[int]], limit: int) -> None:
    documents = [(part, length) for part, lengths in enumerate(parts) for length in lengths]
    expected: list[list[int]] = [[]]
    for number, (_, length) in enumerate(documents):
        if expected[-1] and sum(documents[each][1] for each in expected[-1]) + length > limit:
            expected.append([])
        expected[-1].append(number)
    shards = list(plan_shards((np.array(lengths, np.uint32) for lengths in parts), limit))
    assert [sum(run.tokens for run in runs) for runs in shards] == [
        sum(documents[each][1] for each in numbers) for numbers in expected
    ]
    runs = [run for runs in shards for run in runs]
    for part, lengths in enumerate(parts):  # every token once, in order
        own = [run for run in runs if run.part == part]
        assert [span.start for span in own] == np.cumsum([0, *(run.tokens for run in own)])[:-1].tolist()
        assert sum(run.tokens for run in own) == sum(lengths)


def test_a_damaged_shard_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "train_000000.bin"
    for content, expected in (
        (b"", "shorter than a shard's 1024-byte header"),
        (b"\0" * 1024, f"magic 0, version 0; a shard has {SHARD_MAGIC} and 1"),
        (struct.pack(">i", SHARD_MAGIC) + header(0)[4:], "a shard has"),
        (header(0)[:4] + struct.pack("<i", 2) + header(0)[8:], "version 2"),
        (header(2) + b"\0\0", "header counts 2 tokens, the file holds 1"),
        (header(2) + b"\0" * 5, "the file holds 2.5"),
        (header(-1), "header counts -1 tokens"),
    ):
        path.write_bytes(content)
        with pytest.raises(BadInput, match=expected):
            open_shard(path)
    path.write_bytes(header(0))
    assert len(open_shard(path)) == 0


@given(token_lists(0, 9), st.integers(0, 100), st.integers(0, 60))
def test_a_stream_reads_across_shards_and_round_its_end(shards: list[list[int]], start: int, count: int) -> None:
    flat = [token for shard in shards for token in shard]
    stream = stream_of(*shards)
    assert len(stream) == len(flat)
    if flat:
        assert stream.read(start, count).tolist() == [flat[(start + i) % len(flat)] for i in range(count)]


@given(token_lists(2, 9), st.lists(st.integers(0, 40), max_size=4))
def test_documents_are_read_back_however_the_shards_are_cut(documents: list[list[int]], cuts: list[int]) -> None:
    with pytest.raises(BadInput, match="begins with token 5, not BOS 1"):
        list(stream_of([5, 6, BOS, 7]).documents(BOS))
    flat = [token for document in documents for token in (BOS, *document)]
    edges = [0, *sorted(min(cut, len(flat)) for cut in cuts), len(flat)]
    shards = [flat[a:b] for a, b in zip(edges[:-1], edges[1:], strict=True)]
    assert [d.tolist() for d in stream_of(*shards).documents(BOS)] == documents
