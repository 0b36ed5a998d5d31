"""tools.leaderboard: what a stranger's folder holds is read with care, shown as text, and stops nothing."""

import html.parser
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from base.cli import run
from tests.tools.invented import ANY, CPU, a_board, finding, invent, judge, metrics, picture, seal, submission
from tools.board.files import LARGEST, plain
from tools.board.markdown import escaped
from tools.board.markup import fragment, join, link, tag
from tools.board.reading import read_board
from tools.leaderboard import act, parser, show

EVIL = "{{script}}<script>alert('x')</script><img src=x onerror=alert(1)>\" ' & | [a](javascript:b) `code` \u202etxt"


class Parsed(html.parser.HTMLParser):
    """What a browser would make of it: elements, attributes, text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def made(root: Path) -> tuple[Parsed, str, dict[str, Any]]:
    answer = act(parser().parse_args([str(root)]))
    page = (root / "index.html").read_text(encoding="utf-8")
    return Parsed(page), (root / "README.md").read_text(encoding="utf-8"), answer


def badge(root: Path) -> tuple[str, str]:
    record = read_board(root).records[0]
    return record.badge.state, record.badge.reason


def test_every_record_stands_in_the_page_and_in_the_readme(tmp_path: Path) -> None:
    root = a_board(tmp_path / "records")
    page, readme, answer = made(root)
    assert [len(group["rows"]) for group in answer["groups"]] == [2, 5, 1]
    for group in answer["groups"]:
        for row in group["rows"]:
            assert row["name"] in page.text
            assert row["name"] in readme
    assert [each["place"] for each in answer["unread"]] == [f"{CPU}/2026-11-23_broken"]
    assert "author is missing" in page.text
    assert "author is missing" in readme
    assert "Calibrated clipping" in show(answer)
    assert "model.dim 128 → 160" in page.text


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    root = a_board(tmp_path / "records")
    made(root)
    first = [(root / name).read_bytes() for name in ("index.html", "README.md")]
    for path in root.rglob("*"):
        os.utime(path, (1, 1))
    made(root)
    assert [(root / name).read_bytes() for name in ("index.html", "README.md")] == first


def test_the_page_asks_nothing_of_anyone(tmp_path: Path) -> None:
    page, _, _ = made(a_board(tmp_path / "records"))
    for name, value in page.attributes:
        if name in ("src", "href", "srcset", "action", "data", "poster"):
            assert re.match(r"#|\./track_|data:|https://github\.com/ada-example$", value), (name, value[:80])
        assert not name.startswith("on")
        assert name != "style"  # the content policy would refuse it
    css = (Path(__file__).parents[2] / "tools" / "board" / "page.css").read_text()
    assert "url(" not in css
    assert "@import" not in css


@pytest.mark.parametrize(
    "key", ["name", "author", "github_id", "blurb", "hardware", "technique_summary", "base_record"]
)
def test_what_a_record_says_is_text_and_never_markup(tmp_path: Path, key: str) -> None:
    calm = Parsed(_page(tmp_path / "calm", submission()))
    wild = Parsed(_page(tmp_path / "wild", submission(**{key: EVIL})))
    assert wild.tags.count("script") == 1
    assert set(wild.tags) == set(calm.tags)
    assert {name for name, _ in wild.attributes} == {name for name, _ in calm.attributes}
    if key != "github_id":
        assert "<script>alert('x')</script>" in wild.text
        assert "{{script}}" in wild.text


def _page(root: Path, said: dict[str, Any]) -> str:
    invent(root, "2026-11-21_a", said)
    made(root)
    return (root / "index.html").read_text(encoding="utf-8")


def test_findings_compliance_notes_and_corpora_are_text_too(tmp_path: Path) -> None:
    said = submission(
        compliance={EVIL: True}, notes={"kinds": [{"kind": EVIL, "bytes": 5}], "changes": {EVIL: [EVIL, 1]}}
    )
    said["data"]["name"] = EVIL
    home = invent(tmp_path, "2026-11-21_a", said)
    judge(tmp_path, home, "invalid", "fast", (finding(EVIL, "invalid", EVIL),))
    page, readme, _ = made(tmp_path)
    assert page.tags.count("script") == 1
    assert page.text.count("<script>alert('x')") >= 5
    assert "<script" not in readme
    assert "](javascript" not in readme


def test_a_name_in_the_readme_is_no_markup() -> None:
    said = escaped("a|b `c` [d](https://e) <f> @g *h* _i_ www.j.k")
    assert not re.search(r"(?<!\\)[|`\[\]*_]|[<>@]|://|www\.", said)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda home: (home / "submission.json").unlink(), "submission.json is missing"),
        (lambda home: (home / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda home: (home / "submission.json").write_text("{"), "not JSON"),
        (lambda home: (home / "submission.json").write_text("[" * 100_000), "not JSON"),
        (lambda home: (home / "submission.json").write_text('{"notes": ' + '{"a": ' * 50 + "1" + "}" * 51), "nested"),
        (lambda home: (home / "submission.json").write_text("[]"), "no JSON object"),
        (lambda home: (home / "submission.json").write_bytes(b"\xff\xfe"), "not JSON"),
        (lambda home: (home / "submission.json").write_text(" " * 5_000_000), "up to 4,000,000"),
        (lambda home: _edit(home, "val_bpb", float("nan")), "NaN is no number"),
        (lambda home: _edit(home, "val_bpb", 1e300), "val_bpb is beyond"),
        (lambda home: _edit(home, "val_bpb", "low"), "val_bpb: 'low'"),
        (lambda home: _edit(home, "val_bpb", -1.0), "val_bpb: -1.0"),
        (lambda home: _edit(home, "bytes_total", 10**4000), "bytes_total is beyond"),
        (lambda home: _edit(home, "surprise", 1), "unknown key surprise"),
        (lambda home: _edit(home, "track", ANY), f"says {ANY}"),
        (lambda home: _edit(home, "date", "yesterday!"), "YYYY-MM-DD"),
        (lambda home: _edit(home, "seeds", [7]), "do not name the same seeds"),
        (lambda home: _edit(home, "name", "\u200b\u202e"), "holds nothing that can be shown"),
        (lambda home: (home / "manifest.json").write_text('{"files": []}'), "files is no object"),
    ],
)  # fmt: skip
def test_a_record_that_cannot_be_read_is_listed_with_its_reason(
    tmp_path: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    invent(tmp_path, "2026-11-20_good", submission(name="The good one"), figures=False)
    spoil(invent(tmp_path, "2026-11-21_bad", submission(name="The bad one"), figures=False))
    page, readme, answer = made(tmp_path)
    assert [row["name"] for row in answer["groups"][0]["rows"]] == ["The good one"]
    assert reason in answer["unread"][0]["reason"]
    assert plain(answer["unread"][0]["reason"], 60).rstrip("…") in page.text
    assert "2026-11-21" in readme


def _edit(home: Path, key: str, value: Any) -> None:
    path = home / "submission.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))


def test_links_are_not_followed_and_pipes_not_waited_for(tmp_path: Path) -> None:
    root, outside = tmp_path / "records", tmp_path / "outside.json"
    for number, name in enumerate(("linked", "piped")):
        home = invent(root, f"2026-11-2{number}_{name}", submission(), figures=False)
        (home / "submission.json").rename(outside)
        if name == "linked":
            (home / "submission.json").symlink_to(outside)
        else:
            os.mkfifo(home / "submission.json")
    (root / CPU / "2026-11-25_whole").symlink_to(root / CPU / "2026-11-20_linked")
    reasons = [each.reason for each in read_board(root).broken]
    assert ["link is not followed" in reasons[0], "no plain file" in reasons[1] or "not a plain" in reasons[1]] == [
        1,
        1,
    ]
    assert "links are not followed" in reasons[2]


def test_a_manifest_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    home = invent(tmp_path / "records", "2026-11-21_a", submission(), figures=False)
    (home / "out").symlink_to(tmp_path)
    manifest = json.loads((home / "manifest.json").read_text())
    for name in ("../../../secret", "/etc/passwd", "javascript:alert(1)", "out/secret", "a\\b", "./README.md"):
        manifest["files"][name] = {"sha256": "0" * 64, "bytes": 1}
    (home / "manifest.json").write_text(json.dumps(manifest))
    page, _, _ = made(tmp_path / "records")
    hrefs = [value for name, value in page.attributes if name == "href"]
    assert not [href for href in hrefs if "secret" in href or "passwd" in href or "javascript" in href or ".." in href]
    assert page.text.count("not in the folder") == 6


def test_figures_are_shown_linked_or_missed(tmp_path: Path) -> None:
    home = invent(tmp_path, "2026-11-21_a", submission())
    (home / "figures" / "loss.png").write_bytes(picture() + b"\0" * 300_000)
    (home / "figures" / "bytes.png").write_bytes(b"<svg onload=alert(1)>")
    seal(home)
    page, _, _ = made(tmp_path)
    images = [value for name, value in page.attributes if name == "src"]
    assert len(images) == 1
    assert images[0].startswith("data:image/png;base64,")
    assert ("href", f"./{CPU}/2026-11-21_a/figures/loss.png") in page.attributes
    assert "bytes.png is no PNG" in page.text


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "0 steps make no curve"),
        (b"not json\n", "line 1"),
        (b'{"loss": "x", "elapsed_s": 1}\n', "line 1"),
        (b'{"loss": NaN, "elapsed_s": 1}\n', "line 1"),
        (b'{"loss": 1}\n', "line 1"),
        (b"7\n", "line 1"),
        (b"[" * 9999, "line 1"),
    ],
)
def test_metrics_that_make_no_curve_are_said_and_the_record_stands(tmp_path: Path, data: bytes, reason: str) -> None:
    home = invent(tmp_path, "2026-11-21_a", submission(), figures=False)
    (home / "metrics_seed0.jsonl").write_bytes(data)
    seal(home)
    record = read_board(tmp_path).records[0]
    assert record.curve is None
    assert reason in record.missing["metrics_seed0.jsonl"]
    page, _, _ = made(tmp_path)
    assert "A record" in page.text
    assert reason in page.text


def test_a_badge_is_the_kept_verdict_until_anything_changes(tmp_path: Path) -> None:
    home = invent(tmp_path, "2026-11-21_a", submission())
    assert badge(tmp_path) == ("none", "")
    judge(tmp_path, home)
    assert badge(tmp_path) == ("valid", "")
    (home / "metrics_seed0.jsonl").write_bytes(metrics(1.0))
    assert badge(tmp_path) == ("changed", "metrics_seed0.jsonl is not the file that the manifest names")
    seal(home)
    assert badge(tmp_path) == ("changed", "manifest.json is not the one that was verified")
    judge(tmp_path, home, "flagged")
    assert badge(tmp_path) == ("flagged", "")
    (home / "model.golf").write_bytes(b"flog")  # of the same size
    assert badge(tmp_path) == ("changed", "model.golf is not the file that the manifest names")
    (home / "model.golf").unlink()
    assert badge(tmp_path)[0] == "changed"
    assert "score on a sample" in made(tmp_path)[0].text


@pytest.mark.parametrize("entry", [7, {}, {"verdict": "superb"}, None])
def test_a_verdict_that_cannot_be_read_verifies_nothing(tmp_path: Path, entry: Any) -> None:
    invent(tmp_path, "2026-11-21_a", submission(), figures=False)
    (tmp_path / "verdicts.json").write_text(json.dumps({f"{CPU}/2026-11-21_a": entry}))
    assert badge(tmp_path)[0] == "none"
    (tmp_path / "verdicts.json").write_text("[]")
    board = read_board(tmp_path)
    assert board.records[0].badge.state == "none"
    assert "no record counts as verified" in board.broken[0].reason


def test_absurd_numbers_make_a_page_all_the_same(tmp_path: Path) -> None:
    kinds = [{"kind": "a", "bytes": 10**4000, "weights": -1}, {"kind": 1}, 5, {"kind": "b", "bytes": True}]
    some = [
        submission(bpb=1e-290, seeds=1, params=int(LARGEST), bytes_total=1),
        submission(bpb=4e14, seeds=3, notes={"kinds": kinds, "changes": {"a": 1}, "prep": []}),
        submission(bpb=3e14, date="2026-11-22"),
        submission(val_bpb_std=-1, seeds=3, notes={"kinds": "x"}),
        submission(val_bpb=1e-290, seeds=3, date="2026-11-23"),
    ]
    for number, said in enumerate(some):
        for result in said["seed_results"].values():
            result |= {"val_bpb": said["val_bpb"], "pre_quant_val_bpb": 1.0}  # no spread at all
        said["evaluation"]["val_tokens"] = int(LARGEST)
        invent(tmp_path, f"2026-11-2{number}_x", said, figures=False)
    page, readme, answer = made(tmp_path)
    assert answer["unread"] == []
    assert len(answer["groups"][0]["rows"]) == len(some)
    drawn = " ".join(value for name, value in page.attributes if name in ("d", "cx", "cy", "x", "y", "x1", "y1"))
    assert not re.search("nan|inf", drawn)
    assert "prove nothing" in readme


def test_no_record_is_a_page_that_says_so(tmp_path: Path) -> None:
    page, readme, answer = made(tmp_path)
    assert "There is no record yet." in page.text
    assert "There is no record yet." in readme
    assert answer["groups"] == []


def test_a_folder_that_is_not_there_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(parser(), act, show, [str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert run(parser(), act, show, [str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unread"] == []


def test_fragments_are_their_own_and_fit_an_address() -> None:
    places = ["t/2026-11-21_a", "t/2026-11-21 a", "t/2026-11-21é", 't/"><b>', "t/a.b", "t.a/b"]
    made = [fragment(place) for place in places]
    assert made[0] == "t.2026-11-21_a"
    assert len(set(made)) == len(made)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", each) for each in made)


def test_markup_escapes_text_and_attributes() -> None:
    assert tag("a", "<b>", tag("i", "&"), href='"x"', open=True, title=None) == (
        '<a href="&quot;x&quot;" open>&lt;b&gt;<i>&amp;</i></a>'
    )
    assert join("<", tag("b", ">")) == "&lt;<b>&gt;</b>"
    assert link("t/f", 'a b"<.png') == "./t/f/a%20b%22%3C.png"
    assert plain("a\ud800\u202eb\0\n c" + "x" * 300, 10) == "ab cxxxxx…"
