"""A hostile folder: whatever is in it, the first tier gives a verdict, in time, and touches nothing outside."""

import gzip
import io
import json
import lzma
import os
import time
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from tools.verify.log import read_log
from tools.verify.strict import read_json

from base.cli import run
from base.errors import BadInput
from base.files import is_inside
from data.tokenizer import SentencePieceTokenizer
from tests.tools.records_fixture import TRACK, copied, edit_json, make_record
from tests.tools.test_verify_tampers import checked
from tools.verify import folder as reader
from tools.verify.__main__ import act, newest_record, parser, show
from tools.verify.folder import Folder


@pytest.fixture(scope="module")
def record(tokenizer: SentencePieceTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_record(tmp_path_factory.mktemp("records") / TRACK / "2026-11-21_tiny", tokenizer)


def sparse(path: Path, size_bytes: int) -> None:
    with path.open("wb") as stream:
        stream.truncate(size_bytes)


def rules(folder: Path, level: str = "invalid") -> set[str]:
    return {finding["rule"] for finding in checked(folder)["findings"] if finding["level"] == level}


def test_a_claim_of_a_gigabyte_is_refused_by_its_size(record: Path, tmp_path: Path) -> None:
    folder = copied(record, tmp_path)
    sparse(folder / "submission.json", 1 << 30)
    begun = time.monotonic()
    answer = checked(folder)
    assert answer["verdict"] == "invalid"
    assert any("1,073,741,824 bytes; files like it are read up to" in f["message"] for f in answer["findings"])
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("name", ["model.golf", "train_gpt.py", "README.md", "manifest.json", "requirements.txt"])
def test_other_files_of_a_gigabyte_are_as_well(record: Path, tmp_path: Path, name: str) -> None:
    folder = copied(record, tmp_path)
    sparse(folder / name, 2 << 30)
    assert checked(folder)["verdict"] in ("invalid", "unverified")


UNMEANT = (
    "[" * 200_000, '{"a":' * 50_000,
    "{}", "[]", "null", "", '{"schema": NaN}', '{"seeds": [' + "9" * 5000 + "]}", "\ud800",
    '{"val_bpb": 1e999}', '{"a": 1, "a": 2}', '{"seed_results": {"\u0661": {}}}', '{"schema": "bitgolf-record-1"}',
)  # fmt: skip


@pytest.mark.parametrize("text", UNMEANT, ids=range(len(UNMEANT)))
def test_json_that_is_not_meant_to_be_read_gets_a_verdict(record: Path, tmp_path: Path, text: str) -> None:
    for name in ("submission.json", "manifest.json"):
        folder = copied(record, tmp_path / name)
        (folder / name).write_bytes(text.encode("utf-8", "surrogatepass"))
        assert checked(folder)["verdict"] == "invalid"


def test_a_log_that_is_no_text_gets_a_verdict(record: Path, tmp_path: Path) -> None:
    folder = copied(record, tmp_path)
    (folder / "train_seed42.log").write_bytes(b"\xff\xfe" * 1000)
    assert "log.readable" in rules(folder)


def test_a_config_that_refers_to_itself_is_not_unfolded(record: Path, tmp_path: Path) -> None:
    folder = copied(record, tmp_path)
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 30))
    (folder / "train_seed42.log").write_text(f"{bomb}python\n")
    assert any("refers to itself" in finding["message"] for finding in checked(folder)["findings"])


def test_what_would_take_long_to_read_is_refused(record: Path, tmp_path: Path) -> None:
    folder = copied(record, tmp_path)
    (folder / "train_seed42.log").write_text("a: [" + "[" * 10_000 + "\n")
    (folder / "metrics_seed42.jsonl").write_text('{"step": 1}\n' * 250_000)
    (folder / "train_gpt.py").write_text("x=1\n" * 200_000)
    said = [finding["message"] for finding in checked(folder)["findings"]]
    for why in ("more than 64 brackets", "up to 200,000 are read", "read up to 524,288"):
        assert any(why in message for message in said)


@pytest.mark.parametrize("kind", ["gz", "xz", "zst"])
def test_a_compressed_log_is_unpacked_under_a_bound(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "UNPACKED_BYTES", 1 << 20)
    pack = {"gz": gzip.compress, "xz": lzma.compress, "zst": zstandard.ZstdCompressor().compress}[kind]
    (tmp_path / f"good.log.{kind}").write_bytes(pack(b"step 1\n"))
    (tmp_path / f"bomb.log.{kind}").write_bytes(pack(bytes(40 << 20)))
    (tmp_path / f"broken.log.{kind}").write_bytes(pack(b"step 1\n" * 100)[:-9])
    folder = Folder(tmp_path)
    assert folder.text(f"good.log.{kind}") == "step 1\n"
    with pytest.raises(BadInput, match="unpack to more than"):
        folder.text(f"bomb.log.{kind}")
    (tmp_path / f"none.log.{kind}").write_bytes(b"nothing of the kind")
    with pytest.raises(BadInput, match="does not unpack"):
        Folder(tmp_path).text(f"none.log.{kind}")


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "record").mkdir()
    (tmp_path / "record" / "README.md").symlink_to("../secret")
    (tmp_path / "record" / "figures").symlink_to("..")
    folder = Folder(tmp_path / "record")
    assert folder.files == {}
    assert set(folder.refused) == {"README.md", "figures"}
    for name in ("README.md", "figures/secret", "../secret"):
        with pytest.raises(BadInput):
            folder.text(name)


def test_a_file_swapped_for_a_link_after_the_listing_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "record").mkdir()
    (tmp_path / "record" / "README.md").write_text("hello")
    folder = Folder(tmp_path / "record")
    (tmp_path / "record" / "README.md").unlink()
    (tmp_path / "record" / "README.md").symlink_to("../secret")
    with pytest.raises(BadInput, match="cannot be read"):
        folder.text("README.md")


def test_a_folder_of_very_many_files_is_listed_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MOST_FILES", 5)
    for number in range(9):
        (tmp_path / f"{number}.txt").write_text("")
    assert "(more)" in Folder(tmp_path).refused


@pytest.mark.parametrize("name", ["", "..", "../x", "a/../x", "/x", "a//b", "./x", "a\\b", "x\0"])
def test_names_that_lead_out_are_known(name: str) -> None:
    assert not is_inside(name)


def test_nothing_in_the_folder_is_run(record: Path, tmp_path: Path) -> None:
    folder, mark = copied(record, tmp_path), tmp_path / "mark"
    for name in ("train_gpt.py", "conftest.py", "sitecustomize.py", "torch.py", "__init__.py"):
        (folder / name).write_text(f"open({str(mark)!r}, 'w')\n")
    checked(folder)
    assert not mark.exists()


def test_a_folder_that_is_none_is_bad_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(parser(), act, show, [str(tmp_path / "none"), "--fast"]) == 2
    assert "not a folder" in capsys.readouterr().err


def test_an_empty_folder_is_unverified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(parser(), act, show, [str(tmp_path), "--fast"]) == 1
    assert "submission.json that can be read is missing" in capsys.readouterr().out


def test_a_strangers_words_do_not_move_the_cursor(
    record: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(record, tmp_path)
    edit_json(folder / "submission.json", lambda claim: claim.update(track="\x1b[2J\x1b]0;valid\x07"))
    assert run(parser(), act, show, [str(folder), "--fast"]) == 1
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err


def test_the_answer_is_one_json_object_and_is_kept(
    record: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(record, tmp_path)
    words = [str(folder), "--fast", "--json", "--keep", "--records", str(tmp_path)]
    assert run(parser(), act, show, words) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["verdict"] == "valid"
    assert answer["tier"] == "fast"
    kept = json.loads((tmp_path / "verdicts.json").read_text())
    assert kept[f"{TRACK}/{folder.name}"]["record_sha256"] == answer["record_sha256"]
    edit_json(folder / "submission.json", lambda claim: claim.update(val_bpb=1.0))
    assert run(parser(), act, show, words) == 1
    kept = json.loads((tmp_path / "verdicts.json").read_text())
    assert kept[f"{TRACK}/{folder.name}"]["verdict"] == "invalid"


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_a_log_with_troubles(text: str) -> None:
    assert read_log(text).troubles


PLAIN = st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.text()
PLAIN |= st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=60, deadline=None)
@given(st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_honest_json_is_read_as_it_is(value: object) -> None:
    assert read_json(json.dumps(value), "x") == value


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_under_a_compressed_name_are_text_or_refused(data: bytes) -> None:
    for opener in reader.OPENERS.values():
        try:
            opener(io.BytesIO(data)).read(100)
        except reader.BROKEN:
            continue


def test_without_a_name_the_newest_record_is_taken(tmp_path: Path) -> None:
    old, new = tmp_path / "records/track_a/2026-01-01_old", tmp_path / "runs/demo/records/track_b/2026-01-01_new"
    for folder, when in ((old, 1_000), (new, 2_000)):
        folder.mkdir(parents=True)
        (folder / "submission.json").write_text("{}")
        os.utime(folder / "submission.json", (when, when))
    assert newest_record(tmp_path) == new
    with pytest.raises(BadInput, match=r"no submission\.json in records or runs/\*/records; name a record's folder"):
        newest_record(tmp_path / "runs")
