"""A hostile folder: whatever is in it, the first tier gives a verdict and touches nothing outside."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from base.errors import BadInput
from base.files import is_inside
from tests.records import TRACK, check, copied, edit_json
from tests.runs import printed
from tools.verify import folder as reader
from tools.verify.folder import Folder


def holds(text: str | bytes) -> Callable[[Path], object]:
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    return lambda path: path.write_bytes(data)


def spans(size_bytes: int) -> Callable[[Path], object]:
    """A file without contents, which takes no room on the disk."""

    def write(path: Path) -> None:
        with path.open("wb") as stream:
            stream.truncate(size_bytes)

    return write


UNMEANT_JSON = (
    "[" * 200_000, '{"a":' * 50_000, "{}", "[]", "null", "", '{"schema": NaN}', '{"seeds": [' + "9" * 5000 + "]}",
    "\ud800", '{"val_bpb": 1e999}', '{"a": 1, "a": 2}', '{"seed_results": {"\u0661": {}}}',
    '{"schema": "bitgolf-record-1"}', '{"files": {"a": 1}}',
)  # fmt: skip
JSON_FILES = ("submission.json", "manifest.json", "evidence.json", "result_seed42.json")
HOSTILE = [
    *((name, holds(text)) for text in UNMEANT_JSON for name in JSON_FILES),
    *((name, spans(2 << 30)) for name in ("submission.json", "manifest.json", "model.golf", "README.md")),
    *((name, spans(2 << 30)) for name in ("train_gpt.py", "requirements.txt", "train_seed42.log", "nats_seed42.npy")),
    ("evidence.json", holds(b"\xff\xfe" * 1000)),
    ("nats_seed42.npy", holds(b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'shape': (9999999999999,), }" + b" " * 60)),
    ("metrics_seed42.jsonl", holds('{"step": 1}\n' * 250_000)),
    ("train_gpt.py", holds("x=1\n" * 200_000)),
    ("train_gpt.py", holds("x = " + "[" * 50_000)),
]


@pytest.mark.slow
def test_a_hostile_file_gets_a_verdict(record: Path, tmp_path: Path) -> None:
    for number, (name, write) in enumerate(HOSTILE):
        folder = copied(record, tmp_path / str(number))
        write(folder / name)
        assert check(folder).verdict in ("invalid", "unverified"), (number, name)


def test_nothing_in_the_folder_is_run(record: Path, tmp_path: Path) -> None:
    folder, mark = copied(record, tmp_path), tmp_path / "mark"
    for name in ("train_gpt.py", "conftest.py", "sitecustomize.py", "torch.py", "__init__.py"):
        (folder / name).write_text(f"open({str(mark)!r}, 'w')\n")
    check(folder)
    assert not mark.exists()


# -- listing and reading --------------------------------------------------------------------------------------------


def test_a_file_is_refused_by_its_size_before_it_is_read(tmp_path: Path) -> None:
    spans(1 << 30)(tmp_path / "submission.json")
    with pytest.raises(BadInput, match=r"1,073,741,824 bytes; files like it are read up to 1,048,576"):
        Folder(tmp_path).read("submission.json")


def test_names_that_lead_out_are_known() -> None:
    for name in ("", "..", "../x", "a/../x", "/x", "a//b", "./x", "a\\b", "x\0"):
        assert not is_inside(name), name


def test_links_are_not_followed_and_a_file_swapped_for_one_after_the_listing_is_not_either(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "record").mkdir()
    (tmp_path / "record" / "README.md").symlink_to("../secret")
    (tmp_path / "record" / "figures").symlink_to("..")
    (tmp_path / "record" / "notes.md").write_text("hello")
    folder = Folder(tmp_path / "record")
    (tmp_path / "record" / "notes.md").unlink()
    (tmp_path / "record" / "notes.md").symlink_to("../secret")
    assert (list(folder.files), set(folder.refused)) == (["notes.md"], {"README.md", "figures"})
    for name in ("README.md", "figures/secret", "../secret", "notes.md"):
        with pytest.raises(BadInput):
            folder.text(name)


def test_a_listing_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MOST_FILES", 5)
    for number in range(9):
        (tmp_path / f"{number}.txt").touch()
    folder = Folder(tmp_path)
    assert (len(folder.files), "(more)" in folder.refused) == (5, True)


# -- the command ----------------------------------------------------------------------------------------------------


def test_a_strangers_words_do_not_move_the_cursor(record: Path, tmp_path: Path) -> None:
    folder = copied(record, tmp_path)
    edit_json(folder / "submission.json", lambda claim: claim.update(track="\x1b[2J\x1b]0;valid\x07"))
    assert "\x1b" not in "".join(printed("tools.verify", folder, "--fast", code=1))


def test_the_newest_verdict_is_kept(record: Path, tmp_path: Path) -> None:
    folder = copied(record, tmp_path)
    for verdict in ("valid", "invalid"):
        answer = check(folder, "--keep")
        kept = json.loads((folder.parents[1] / "verdicts.json").read_text())[f"{TRACK}/{folder.name}"]
        assert answer.verdict == kept["verdict"] == verdict
        assert answer.record_sha256 == kept["record_sha256"]
        edit_json(folder / "submission.json", lambda claim: claim.update(val_bpb=1.0))
