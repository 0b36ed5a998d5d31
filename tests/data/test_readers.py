"""data.readers, data.corpus, data.stdlib: every format, every compression, every kind of damage."""

import gzip
import json
import lzma
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from base.errors import BadInput
from data.corpus import open_corpus
from data.readers import Bad
from data.stdlib import stdlib_files

TEXTS = ["first", "second\nline", "", "dritter · 🙂", "  blanks  \r\n"]


def write_jsonl(path: Path, texts: list[str], field: str = "text") -> Path:
    path.write_text("".join(json.dumps({field: text, "n": 1}) + "\n" for text in texts), encoding="utf-8")
    return path


def write_parquet(path: Path, texts: list[str | None], field: str = "text") -> Path:
    pq.write_table(pa.table({field: pa.array(texts, pa.string()), "n": [1] * len(texts)}), path)
    return path


def read(spec: Path | str, **options: object) -> tuple[list[str], list[Bad]]:
    bad: list[Bad] = []
    corpus = open_corpus(str(spec), **options)  # type: ignore[arg-type]
    return [document.text for document in corpus.documents(bad.append)], bad


def compress(path: Path, suffix: str) -> Path:
    raw = path.read_bytes()
    packed = {
        ".gz": gzip.compress,
        ".xz": lzma.compress,
        # two frames, as parallel compressors and `cat a.zst b.zst` write them
        ".zst": lambda b: zstandard.compress(b[: len(b) // 2]) + zstandard.compress(b[len(b) // 2 :]),
    }[suffix](raw)
    target = path.with_name(path.name + suffix)
    target.write_bytes(packed)
    path.unlink()
    return target


def test_every_format_reads_the_same_under_every_compression(tmp_path: Path) -> None:
    plain = "one\n\ntwo 🙂\r\n three"
    expected = [text for text in TEXTS if text]
    for suffix in ("", ".gz", ".xz", ".zst"):
        (tmp_path / "a.txt").write_bytes(plain.encode())
        (tmp_path / "b.txt").write_bytes(plain.encode())
        for path, txt, wanted in (
            (write_jsonl(tmp_path / "A.JSONL", TEXTS), None, expected),
            (tmp_path / "a.txt", "line", ["one", "two 🙂", " three"]),
            (tmp_path / "b.txt", "file", [plain]),
        ):
            assert read(compress(path, suffix) if suffix else path, txt=txt) == (wanted, [])
    assert read(write_parquet(tmp_path / "a.parquet", [*TEXTS])) == (expected, [])


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_a_truncated_or_damaged_file_is_an_error_never_a_shorter_corpus(tmp_path: Path, suffix: str) -> None:
    texts = [f"{number} {hash(number * 7919)}" for number in range(5000)]
    path = compress(write_jsonl(tmp_path / "a.jsonl", texts), suffix)
    raw = path.read_bytes()
    truncated = [raw[: int(len(raw) * share)] for share in (0.0, 0.3, 0.9)]
    second_stream = [raw + b"garbage after the end", raw + b"\xfd7zXZ\0\0\1"]
    for content in (*truncated, raw[:-1], *second_stream, b"this is not what the name claims" * 10):
        path.write_bytes(content)
        with pytest.raises(BadInput, match=r"a\.jsonl.*damaged or truncated"):
            read(path)
    (tmp_path / "a.parquet").write_bytes(raw)
    with pytest.raises(BadInput, match="damaged or truncated"):
        read(tmp_path / "a.parquet")


def test_documents_that_cannot_be_read_are_named_with_their_line(tmp_path: Path) -> None:
    good = b'{"text": "fine"}\n'
    broken = [b'{"text": "\xff"}\n', b"{broken\n", b'{"other": 1}\n', b'{"text": 5}\n', b'{"text": "\\ud800"}\n']
    (tmp_path / "a.jsonl").write_bytes(good + b"".join(broken) + b"\n" + good)
    (tmp_path / "a.txt").write_bytes(b"ok\n\xfe\xff\nok\n")
    write_parquet(tmp_path / "a.parquet", ["x", None, "y"])
    no_text = "no text in field 'text'"
    reasons = ["can't decode byte 0xff in position 10", "Expecting property name", no_text, no_text, "surrogates not"]
    for file, txt, expected, named in (
        ("a.jsonl", None, ["fine", "fine"], [(f"a.jsonl:{line}", reason) for line, reason in enumerate(reasons, 2)]),
        ("a.txt", "line", ["ok", "ok"], [("a.txt:2", "can't decode byte 0xfe in position 0")]),
        ("a.txt", "file", [], [("a.txt", "can't decode byte 0xfe in position 3")]),
        ("a.parquet", None, ["x", "y"], [("a.parquet:2", no_text)]),
    ):
        texts, bad = read(tmp_path / file, txt=txt)
        assert texts == expected
        for item, (name, reason) in zip(bad, named, strict=True):
            assert item.name == name
            assert reason in item.reason


def test_another_field_may_be_named_and_a_missing_column_names_the_others(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", ["x"], "body")
    for file in (path, write_jsonl(tmp_path / "a.jsonl", ["x"], "body")):
        assert read(file, field="body")[0] == ["x"]
    with pytest.raises(BadInput, match="no column 'text'; it has body, n"):
        read(path)


def test_a_folder_or_glob_is_read_by_name_and_other_files_are_ignored(tmp_path: Path) -> None:
    for folder in ("in/sub", "in/.git", "far"):
        (tmp_path / folder).mkdir(parents=True)
    inside = tmp_path / "in"
    write_jsonl(inside / "b.jsonl", ["b"])
    compress(write_jsonl(inside / "a.jsonl", ["a"]), ".gz")
    write_parquet(inside / "sub" / "c.parquet", ["c"])
    (inside / "README.md").write_text("not a document")
    write_jsonl(inside / ".git" / "hidden.jsonl", ["hidden"])
    (tmp_path / "far" / "d.jsonl").write_bytes(b"\xef\xbb\xbf" + b'{"text": "d"}\n')  # a byte order mark is skipped
    assert read(f"{inside}/*.jsonl*")[0] == ["a", "b"]
    assert read(f"{inside}/**/*.parquet")[0] == ["c"]
    (inside / "link").symlink_to(tmp_path / "far")
    (inside / "loop").symlink_to(inside)
    assert open_corpus(str(inside)).ignored_files == 1
    assert sorted(read(inside)[0]) == ["a", "b", "c", "d"]
    (inside / "e.jsonl").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        read(inside)


def test_the_fingerprint_follows_content_and_names_not_place_or_time(tmp_path: Path) -> None:
    def fingerprint(place: str, name: str, text: str) -> str:
        (tmp_path / place).mkdir()
        return open_corpus(str(write_jsonl(tmp_path / place / name, [text]))).fingerprint

    one = fingerprint("x", "a.jsonl", "a")
    assert fingerprint("y", "a.jsonl", "a") == one
    assert one not in (fingerprint("z", "a.jsonl", "b"), fingerprint("w", "b.jsonl", "a"))


def test_the_standard_library_is_read_in_order_without_what_distributions_change() -> None:
    names = [name for name, _ in stdlib_files()]
    assert names == sorted(names)
    assert {"os.py", "asyncio/events.py", "json/decoder.py"} <= set(names)
    assert not [name for name in names if "/test" in name or "site-packages" in name or "sysconfigdata" in name]
    documents = list(open_corpus("stdlib").documents(lambda bad: pytest.fail(f"{bad.name}: {bad.reason}")))
    assert 5_000_000 < sum(len(document.text) for document in documents) < 20_000_000
