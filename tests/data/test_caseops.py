"""data.caseops: every text comes back, and its bytes are counted, from the characters to dataset, codec and text."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from base.errors import BadInput, CheckFailed
from base.run_folder import MODEL
from data.bytes import ByteTable
from data.caseops import ALL, ESCAPE, OPERATORS, TRANSFORMS, UP, find_letters, fold, unfold
from data.check import _prove_document
from data.dataset import open_dataset
from data.tokenizer import SentencePieceTokenizer, load_tokenizer
from data.tokenizer_training import train_tokenizer
from eval.codec import compress, decompress
from model.config import ModelConfig
from quant.unpack import from_bytes
from tests.conftest import make_text, prep, sentencepiece_like
from tests.eval.tiny import tiny_artifact, written
from tests.runs import printed, refusal, write_texts
from tests.tools.test_export_llama import make_model, save_run
from tools import generate

CAPITALS = "The END of NASA and McDonald, A I: HTMLParser ÉCOLE Ümit ΟΔΟΣ Οδός МОСКВА Привет "
NASTY = [*OPERATORS, "\ue104", "\ue105", "\ue106", *"aBéÉß İıſ\u212aΣσςǅǄǆﬁÅ\u030a\u0345ⅠⒶ𐐀𐐨Ა▁\n\0\udce9", "ẞ", "ŉ"]
nasty_text = st.text(max_size=60) | st.text(st.sampled_from(NASTY), max_size=60)


def size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def without_operators(text: str) -> str:
    return "".join(character for character in text if character not in OPERATORS)


@pytest.fixture(scope="module")
def folding(texts: list[str]) -> SentencePieceTokenizer:
    return train_tokenizer([text + CAPITALS for text in texts], 400, TRANSFORMS["caseops"])


@settings(max_examples=1000)
@given(text=nasty_text)
def test_every_text_comes_back_and_its_bytes_are_those_beside_the_operators(text: str) -> None:
    folded = fold(text)
    assert unfold(folded) == text
    assert size(without_operators(folded)) == size(text)


@given(folded=nasty_text, cut=st.integers(0, 60))
def test_any_operators_unfold_to_as_many_bytes_and_the_beginning_to_the_beginning(folded: str, cut: int) -> None:
    text = unfold(folded)
    assert size(text) == size(without_operators(folded))
    assert text.startswith(unfold(folded[:cut]))


def test_every_character_comes_back_between_letters() -> None:
    points = [chr(point) for point in range(0x20000)]  # cases end before
    for between in ("a", "B", " AB"):
        text = between.join(points)
        assert unfold(fold(text)) == text


def test_operators_are_few_and_precede_the_space_of_their_word() -> None:
    for text, folded in {
        "the end": "the end",
        "In a McDo": f"{UP}in a{UP} mc{UP}do",
        "by NASA\nUSA,  A I": f"by{ALL} nasa\n{ALL}usa, {UP} a{UP} i",
        "aBC HTMLParser": f"a{ALL}bc{UP} h{UP}t{UP}m{UP}l{UP}parser",
        "MAX_SIZE İSTANBUL STRAßE": f"{ALL}max_{ALL}size İ{ALL}stanbul{ALL} straß{UP}e",
        f"{UP}A": f"{ESCAPE}\ue104{UP}a",
    }.items():
        assert fold(text) == folded


def test_letters_are_the_same_in_every_python() -> None:
    letters = find_letters()
    pairs = "".join(map(chr, [*letters.to_small, *letters.to_small.values()]))
    assert hashlib.sha256(pairs.encode()).hexdigest()[:16] == "c10bfa9e0f1166be"
    for small, capital in letters.to_capital.items():
        assert (chr(small).upper(), chr(capital).lower()) == (chr(capital), chr(small))
        assert size(chr(small)) == size(chr(capital))
    assert not {*"İıßẞςſ\u212aǅⅠⒶ\u0345ﬁȺ"} & {*pairs}


@settings(max_examples=300)
@given(text=nasty_text.map(lambda text: text.replace("\udce9", "")))
def test_a_tokenizer_with_operators_gives_any_text_back(folding: SentencePieceTokenizer, text: str) -> None:
    ids = folding.encode(text)
    assert folding.decode(ids) == text
    table = ByteTable(folding)
    assert table.join(ids) == text.encode()
    assert table.exact_bytes(ids).sum() == len(text.encode())
    assert not table.boundary[ids].any()


def test_the_operators_are_the_first_pieces_and_no_other_piece_has_a_capital(folding: SentencePieceTokenizer) -> None:
    assert [folding._sp.id_to_piece(4 + number) for number in range(3)] == [*OPERATORS]
    assert not any(chr(byte).isupper() for piece in folding.pieces()[263:] for byte in piece.data if byte < 128)
    assert ByteTable(folding).exact[4:7].tolist() == [0] * 3
    small, title, capitals = (folding.encode(text).tolist() for text in (" привет", " Привет", " ПРИВЕТ"))
    assert (title, capitals) == ([4, *small], [5, *small])
    assert load_tokenizer(folding.model).transform is TRANSFORMS["caseops"]


def test_texts_with_operators_make_no_folding_tokenizer(tokenizer: SentencePieceTokenizer, texts: list[str]) -> None:
    private = train_tokenizer(["".join(OPERATORS) * 50], 264)
    for plain in (tokenizer, private):
        assert plain.transform is TRANSFORMS["none"]
    with pytest.raises(BadInput, match="does not give text back, and caseops needs a tokenizer that does"):
        sentencepiece_like(texts, user_defined_symbols=list(OPERATORS))


# -- datasets -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    documents = [make_text(seed).title() + CAPITALS + f"{UP}{ESCAPE}X" for seed in range(60)]
    return write_texts(tmp_path_factory.mktemp("corpus") / "capitals.jsonl", documents)


def flags(source: Path, out: Path) -> list[object]:
    return [source, "--vocab", 500, "--val-fraction", 0.2, "--workers", 1, "--out", out]


def test_a_dataset_is_proved_reused_and_records_its_transform(source: Path, tmp_path: Path) -> None:
    plain = prep(*flags(source, tmp_path / "plain"))
    answer = prep(*flags(source, tmp_path / "folded"), "--transform", "caseops")
    printed("data.check", answer["path"])
    for key in ("train_bytes", "val_bytes", "val_raw_bytes", "train_docs", "corpus_sha256"):
        assert answer[key] == plain[key]
    dataset = open_dataset(answer["path"])
    assert (dataset.manifest.tokenizer.transform, dataset.manifest.request["transform"]) == ("caseops", "caseops")
    assert prep(*flags(source, tmp_path / "folded"), "--transform", "caseops")["up_to_date"]
    assert not prep(*flags(source, tmp_path / "folded"))["up_to_date"]


def test_a_dataset_from_before_transforms_is_up_to_date(source: Path, tmp_path: Path, rewrite_manifest: Any) -> None:
    prep(*flags(source, tmp_path / "old"))
    rewrite_manifest(tmp_path / "old", lambda m: (m["request"].pop("transform"), m["tokenizer"].pop("transform")))
    assert prep(*flags(source, tmp_path / "old"))["up_to_date"]


def test_the_check_finds_an_operator_that_does_nothing(source: Path, tmp_path: Path) -> None:
    dataset = open_dataset(prep(*flags(source, tmp_path / "d"), "--transform", "caseops")["path"])
    tokens = next(iter(dataset.documents("val")))
    assert _prove_document(dataset, tokens, "here") == dataset.tokenizer.decode(tokens).encode()
    for operator in range(4, 7):
        with pytest.raises(CheckFailed, match="here: its tokens are not what the tokenizer makes of its text"):
            _prove_document(dataset, np.append(tokens, operator).astype(np.uint16), "here")


def test_a_failing_transform_names_the_document(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    caseops = TRANSFORMS["caseops"]
    words = [*flags(source, tmp_path / "out"), "--transform", "caseops"]
    text = "say the NAME and THEN"
    broken = source.with_name("broken.jsonl")
    broken.write_text(source.read_text() + json.dumps({"text": text}) + "\n")
    words[0] = broken
    monkeypatch.setitem(TRANSFORMS, "caseops", replace(caseops, fold=lambda text: fold(text.replace("NAME", "Name"))))
    with pytest.raises(BadInput, match=r"broken.jsonl.*61.* give this document back.*byte 9 on it gives b'ame and"):
        prep(*words)
    longer = replace(
        caseops,
        fold=lambda text: fold(text).replace("say", "s\u00e4y"),
        unfold=lambda folded: unfold(folded).replace("s\u00e4y", "say"),
    )
    monkeypatch.setitem(TRANSFORMS, "caseops", longer)
    with pytest.raises(BadInput, match=r"broken.jsonl.*61.* its tokens count 22 bytes, and it has 21"):
        prep(*words)
    assert not (tmp_path / "out").exists()


def test_a_given_tokenizer_has_its_own_transform(source: Path, tmp_path: Path) -> None:
    first = prep(*flags(source, tmp_path / "first"), "--transform", "caseops")
    own = [source, "--val-fraction", 0.2, "--workers", 1, "--tokenizer", tmp_path / "first" / "tokenizer.model"]
    again = prep(*own, "--out", tmp_path / "again")
    assert (again["data_sha256"], again["transform"]) == (first["data_sha256"], "caseops")
    with pytest.raises(BadInput, match="so is --transform; a given --tokenizer has its own"):
        prep(*own, "--transform", "caseops", "--out", tmp_path / "again")


# -- artifacts ------------------------------------------------------------------------------------------------------


def test_any_file_comes_back_from_the_codec(folding: SentencePieceTokenizer) -> None:
    artifact = from_bytes(tiny_artifact(folding))
    for data in (CAPITALS.encode(), b"A I A I" * 9, b"\xffTHE\xc3", "".join(OPERATORS).encode(), b"AbCdEfGh" * 9, b""):
        assert decompress(artifact, compress(artifact, data)[0]) == data


def test_generated_text_has_its_capitals(folding: SentencePieceTokenizer, tmp_path: Path) -> None:
    artifact = written(tmp_path, folding)
    table = ByteTable(folding)
    texts = []
    for seed in range(8):
        words = [str(artifact), "--prompt", "SO THE EN", "--temperature", "9", "--top-p", "1", "--seed", str(seed)]
        answer = generate.act(generate.parser().parse_args([*words, "--top-k", "0"]))
        joined = table.join([*folding.encode(answer.prompt).tolist(), *answer.tokens])
        assert answer.prompt + answer.text == joined.decode(errors="replace")
        texts.append(answer.text)
    assert any(character.isupper() for text in texts for character in text)
    assert not {*"".join(texts)} & {*OPERATORS}


def test_folders_for_other_programs_are_refused(folding: SentencePieceTokenizer, tmp_path: Path) -> None:
    model = make_model(ModelConfig(vocab_size=folding.vocab_size, layers=1, dim=16, heads=2, kv_heads=2))
    run = str(save_run(tmp_path / "run", model, folding) / MODEL)
    for words in (["tools.export_llama", run], ["tools.convert_rscalm", "checkpoint", run]):
        assert "its tokenizer has the transform caseops" in refusal(*words, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
