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


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_every_format_reads_the_same_under_every_compression(tmp_path: Path, suffix: str) -> None:
    plain = "one\n\ntwo 🙂\r\n three"
    (tmp_path / "a.txt").write_bytes(plain.encode())
    (tmp_path / "b.txt").write_bytes(plain.encode())
    expected = [text for text in TEXTS if text]
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


def test_links_to_folders_are_followed_once_and_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "b.jsonl").write_bytes(b"\xef\xbb\xbf" + b'{"text": "b"}\n')
    (tmp_path / "in" / "link").symlink_to(tmp_path / "far")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    write_jsonl(tmp_path / "in" / "a.jsonl", ["a"])
    assert read(tmp_path / "in") == (["a", "b"], [])
    (tmp_path / "in" / "c.jsonl").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "in")


def test_documents_that_cannot_be_read_are_named_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    good = b'{"text": "fine"}\n'
    path.write_bytes(
        good + b'{"text": "\xff"}\n' + b"{broken\n" + b'{"other": 1}\n' + b'{"text": 5}\n' + b'"text"\n'
        + b'{"text": "\\ud800"}\n' + b"\n" + good
    )  # fmt: skip
    texts, bad = read(path)
    assert texts == ["fine", "fine"]
    assert [item.name for item in bad] == [f"a.jsonl:{line}" for line in range(2, 8)]
    reasons = [item.reason for item in bad]
    assert "can't decode byte 0xff in position 10" in reasons[0]
    assert "not readable as jsonl: Expecting property name" in reasons[1]
    assert all("no text in field 'text'" in reason for reason in reasons[2:5])
    assert "surrogates not allowed" in reasons[5]


def test_bad_bytes_in_txt_and_nulls_in_parquet_are_named_too(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"ok\n\xfe\xff\nok\n")
    write_parquet(tmp_path / "a.parquet", ["x", None, "y"])
    for file, txt, expected, name, reason in (
        ("a.txt", "line", ["ok", "ok"], "a.txt:2", "can't decode byte 0xfe in position 0"),
        ("a.txt", "file", [], "a.txt", "can't decode byte 0xfe in position 3"),
        ("a.parquet", None, ["x", "y"], "a.parquet:2", "no text in field 'text'"),
    ):
        texts, bad = read(tmp_path / file, txt=txt)
        assert (texts, [item.name for item in bad]) == (expected, [name])
        assert reason in bad[0].reason


def test_another_field_may_be_named_and_a_missing_column_names_the_others(tmp_path: Path) -> None:
    assert read(write_jsonl(tmp_path / "a.jsonl", ["x"], "body"), field="body")[0] == ["x"]
    path = write_parquet(tmp_path / "a.parquet", ["x"], "body")
    assert read(path, field="body")[0] == ["x"]
    with pytest.raises(BadInput, match="no column 'text'; it has body, n"):
        read(path)


def test_a_folder_or_glob_is_read_by_name_and_other_files_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write_jsonl(tmp_path / "b.jsonl", ["b"])
    compress(write_jsonl(tmp_path / "a.jsonl", ["a"]), ".gz")
    write_parquet(tmp_path / "sub" / "c.parquet", ["c"])
    (tmp_path / "README.md").write_text("not a document")
    (tmp_path / "convert.py").write_text("not a document either")
    (tmp_path / ".git").mkdir()
    write_jsonl(tmp_path / ".git" / "hidden.jsonl", ["hidden"])
    assert open_corpus(str(tmp_path)).ignored_files == 2
    assert read(tmp_path)[0] == ["a", "b", "c"]
    assert read(f"{tmp_path}/*.jsonl*")[0] == ["a", "b"]
    assert read(f"{tmp_path}/**/*.parquet")[0] == ["c"]


def test_a_source_that_cannot_be_one_names_the_reason(tmp_path: Path) -> None:
    for folder in ("empty", "only-md", "mixed"):
        (tmp_path / folder).mkdir()
    (tmp_path / "only-md" / "note.md").write_text("x")
    (tmp_path / "mixed" / "a.txt").write_text("x")
    (tmp_path / "plain.txt").write_text("x")
    write_jsonl(tmp_path / "mixed" / "b.jsonl", ["x"])
    for name, expected in (
        ("missing.jsonl", "no file is there"),
        ("empty", "no file is there"),
        ("only-md", r"no \.txt, \.jsonl .*or \.parquet in note\.md"),
        ("plain.txt", "--txt line or --txt file"),
        ("mixed", "--txt line or --txt file"),
    ):
        with pytest.raises(BadInput, match=expected):
            open_corpus(str(tmp_path / name))


def test_the_fingerprint_follows_content_and_names_not_place_or_time(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    one = open_corpus(str(write_jsonl(tmp_path / "x" / "a.jsonl", ["a"]))).fingerprint
    assert open_corpus(str(write_jsonl(tmp_path / "y" / "a.jsonl", ["a"]))).fingerprint == one
    assert open_corpus(str(write_jsonl(tmp_path / "x" / "a.jsonl", ["b"]))).fingerprint != one
    assert open_corpus(str(write_jsonl(tmp_path / "x" / "b.jsonl", ["a"]))).fingerprint != one


def test_the_standard_library_is_read_in_order_without_what_distributions_change() -> None:
    names = [name for name, _ in stdlib_files()]
    assert names == sorted(names)
    assert {"os.py", "asyncio/events.py", "json/decoder.py"} <= set(names)
    assert not [name for name in names if "/test" in name or "site-packages" in name or "sysconfigdata" in name]
    assert not [name for name in names if name.startswith(("idlelib", "tkinter", "lib2to3", "ensurepip", "test"))]
    documents = list(open_corpus("stdlib").documents(lambda bad: pytest.fail(f"{bad.name}: {bad.reason}")))
    assert 5_000_000 < sum(len(document.text) for document in documents) < 20_000_000
