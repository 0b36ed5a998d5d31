"""tools.generate: the same text with a cache and without, alone and in a batch, streamed and whole; and bad input."""

import io
import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from base.cli import run
from base.config import load, to_dict
from data.tokenizer import ByteTokenizer, SentencePieceTokenizer
from engine.checkpoint import save_checkpoint
from model.config import ModelConfig
from model.gpt import GPT
from tests.eval.tiny import CONTEXT, written
from tests.model.test_gpt import BOS, any_config, scrambled
from tools.generate import act, parser, show
from tools.generation import Speech, continued, healed, window_start
from tools.load_model import open_model
from tools.sampling import Sampling
from train_gpt import RunConfig

CONFIGS = Path(__file__).parents[2] / "configs"
GREEDY = Sampling(temperature=0)
ENDS = (BOS, 2)


def plainly(model: GPT, prompt: list[int], context: int, most: int) -> list[int]:
    """Greedy decoding as one would write it down: the whole view through the model, the likeliest token, again."""
    text = list(prompt)
    while len(text) < len(prompt) + most:
        start = 0
        while len(text) - start > context:
            start += max(1, context // 2)
        text.append(int(model(torch.tensor([text[start:]]))[0, -1].argmax()))
        if text[-1] in ENDS:
            break
    return text[len(prompt) :]


def batched(
    model: GPT, prompts: list[list[int]], context: int, sampling: Sampling, most: int, **how: Any
) -> list[list[int]]:
    made: list[list[int]] = [[] for _ in prompts]
    for row, token in continued(model, prompts, context, sampling, most, how.pop("seed", 0), ENDS, **how):
        made[row].append(token)
    return made


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
@torch.no_grad()
def test_greedy_text_is_the_uncached_models_for_every_feature_in_batches_and_past_the_contexts_end(seed: int) -> None:
    picks = random.Random(seed)
    model = scrambled(any_config(picks), seed, torch.float64)
    context = picks.randint(4, 14)
    prompts = [
        [BOS, *(picks.randrange(3, 50) for _ in range(picks.randrange(context)))] for _ in range(picks.randint(1, 4))
    ]
    expected = [plainly(model, prompt, context, 12) for prompt in prompts]
    assert batched(model, prompts, context, GREEDY, 12) == expected
    assert batched(model, prompts, context, GREEDY, 12, cached=False) == expected


@torch.no_grad()
def test_greedy_text_is_the_uncached_models_in_fp32() -> None:
    for seed in range(10):
        model = scrambled(any_config(random.Random(seed)), seed, torch.float32)
        assert batched(model, [[BOS, 7, 8]], 16, GREEDY, 12) == [plainly(model, [BOS, 7, 8], 16, 12)]


def test_a_prompt_draws_in_a_batch_what_it_draws_alone_and_the_seed_decides() -> None:
    model = scrambled(ModelConfig(vocab_size=50, dim=32, heads=4, layers=2, bos_id=BOS), 0, torch.float64)
    prompts, sampling = [[BOS, 5], [BOS, 9, 4, 30, 7, 22], [BOS, 5], [BOS]], Sampling(temperature=1.5)
    together = batched(model, prompts, 10, sampling, 20)
    assert together == [batched(model, [prompt], 10, sampling, 20)[0] for prompt in prompts]
    assert together[0] == together[2]
    assert together != batched(model, prompts, 10, sampling, 20, seed=1)


@given(st.integers(1, 200), st.integers(1, 40))
def test_the_view_moves_by_half_contexts_and_always_fits(length: int, context: int) -> None:
    start = window_start(length, context)
    assert start == 0 if length <= context else length - context <= start < length
    assert start % max(1, context // 2) == 0
    assert length - start > context - max(1, context // 2) or length <= context  # and no more falls out than must


@pytest.mark.parametrize("size", [0, 4])
def test_no_4gram_comes_twice_if_so_asked(size: int) -> None:
    config = ModelConfig(vocab_size=6, dim=16, heads=2, kv_heads=2, layers=1, bos_id=BOS)
    repeats = 0
    for seed in range(8):
        prompt = [BOS, 3, 4, 5, 3, 4, 5]
        sampling = Sampling(temperature=0, no_repeat_ngram=size)
        text = prompt[1:] + batched(scrambled(config, seed, torch.float64), [prompt], 64, sampling, 60)[0]
        grams = [tuple(text[at : at + 4]) for at in range(len(text) - 3)]
        repeats += len(grams) - len(set(grams))
    assert repeats == 0 if size else repeats > 0


@settings(max_examples=100)
@given(text=st.text(max_size=30), data=st.data())
def test_speech_is_whole_characters_that_add_up_to_the_text(
    tokenizer: SentencePieceTokenizer, text: str, data: st.DataObject
) -> None:
    for each in (tokenizer, ByteTokenizer()):
        speech = Speech(each)
        parts = [speech.say(int(token)) for token in each.encode(text)]
        assert "".join(parts) + speech.end() == text
        assert "\ufffd" not in "".join(parts) or "\ufffd" in text
    cut = data.draw(st.integers(0, 3))
    speech = Speech(ByteTokenizer())
    half = "".join(speech.say(int(token)) for token in ByteTokenizer().encode("🙂")[:cut])
    assert half + speech.end() == ("\ufffd" if cut else "")


# -- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def artifact(tokenizer: SentencePieceTokenizer, tmp_path: Path) -> Path:
    return written(tmp_path, tokenizer)


def generate(*words: object) -> dict[str, Any]:
    return act(parser().parse_args([str(word) for word in words]))


def test_the_artifact_and_the_runs_checkpoint_tell_the_same(
    tokenizer: SentencePieceTokenizer, artifact: Path, tmp_path: Path
) -> None:
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, layers=1, dim=16, heads=2, kv_heads=1, bos_id=tokenizer.bos_id
    )
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "tokenizer.model").write_bytes(tokenizer.model)
    folder = tmp_path / "run"
    folder.mkdir()
    said = {"model": to_dict(config), "train": {"seq_len": CONTEXT}, "data": {"path": str(tmp_path / "data")}}
    save_checkpoint(folder, {"config": said, "weights": GPT(config).state_dict()}, "model.pt")
    for model in (folder, folder / "model.pt"):
        answer = generate(model, "--prompt", "the model", "--max-new-tokens", 30, "--temperature", 0)
        assert answer["model"] == str(folder / "model.pt")
        assert answer["context"] == CONTEXT
        assert answer["texts"][0]["text"] == generate(folder, "--prompt", "the model", "--max-new-tokens", 30,
            "--temperature", 0, "--no-cache")["texts"][0]["text"]  # fmt: skip
    assert generate(artifact, "--prompt", "the")["model"] == str(artifact)
    assert generate(artifact.parent, "--prompt", "the")["model"] == str(artifact)


@pytest.mark.parametrize("flags", [(), ("--temperature", 0, "--no-repeat-ngram", 1), ("--no-cache",)])
def test_a_prompt_that_ends_in_a_blank_goes_on_with_a_token_that_begins_with_it(
    artifact: Path, tokenizer: SentencePieceTokenizer, flags: tuple[object, ...]
) -> None:
    data = [piece.data for piece in tokenizer.pieces()]
    for prompt in ("the model ", "the", " "):
        for seed in range(4):
            words = (artifact, "--prompt", prompt, "--max-new-tokens", 6, "--seed", seed, *flags)
            [said] = generate(*words)["texts"]
            spelled = b"".join(data[token] for token in said["tokens"])
            if prompt.endswith(" "):
                assert spelled.startswith(b" ")
                spelled = spelled[1:]
            assert said["text"] == spelled.decode(errors="replace")
    assert healed(tokenizer.encode("a model").tolist(), tokenizer)[1] is None


def test_a_file_of_prompts_gives_what_each_gives_alone(artifact: Path, tmp_path: Path) -> None:
    prompts = ["the model", "naïve 日本", "of and of and of", " x"]
    (tmp_path / "p.txt").write_text("\n".join(prompts) + "\n", encoding="utf-8")
    (tmp_path / "p.jsonl").write_text(
        "\n".join(json.dumps(p if at % 2 else {"prompt": p}) for at, p in enumerate(prompts)), encoding="utf-8"
    )
    flags = ("--max-new-tokens", 40, "--repetition-penalty", 1.3, "--no-repeat-ngram", 4, "--top-p", 0.95, "--seed", 3)
    alone = [generate(artifact, "--prompt", prompt, *flags)["texts"][0] for prompt in prompts]
    for name in ("p.txt", "p.jsonl"):
        answer = generate(artifact, "--prompts", tmp_path / name, *flags)
        assert answer["texts"] == alone
        assert answer["tokens"] == sum(len(each["tokens"]) for each in alone)
        assert all(prompt in show(answer) for prompt in prompts)


def test_what_is_streamed_is_what_is_answered(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = io.StringIO()

    monkeypatch.setattr(sys, "__stdout__", pipe)
    words = [str(artifact), "--prompt", "日本 ", "--max-new-tokens", "60", "--temperature", "3", "--top-p", "1"]
    assert run(parser(), act, show, [*words, "--stream"]) == 0
    assert capsys.readouterr().out == ""
    assert run(parser(), act, show, words) == 0
    assert pipe.getvalue() == capsys.readouterr().out
    assert run(parser(), act, show, [*words, "--stream", "--json"]) == 0
    captured = capsys.readouterr()
    answer = json.loads(captured.out)["texts"][0]
    assert captured.err == answer["prompt"] + answer["text"] + "\n" == pipe.getvalue()


def test_a_text_ends_at_the_mark_of_the_next_document(tokenizer: SentencePieceTokenizer, tmp_path: Path) -> None:
    for mark in (tokenizer.bos_id, tokenizer.eos_id):
        config = ModelConfig(
            vocab_size=tokenizer.vocab_size, layers=1, dim=16, heads=2, kv_heads=2, bos_id=tokenizer.bos_id, tied=False
        )
        model = GPT(config)
        with torch.no_grad():
            assert model.head is not None
            model.head.weight.zero_()
            model.blocks[0].mlp.down.weight.zero_()
            model.blocks[0].attn.out.weight.zero_()
            model.embedding.table.weight.fill_(1)
            model.head.weight[mark] = 1
        said = {"model": to_dict(config), "train": {"seq_len": CONTEXT}, "data": {"path": "nowhere"}}
        save_checkpoint(tmp_path, {"config": said, "weights": model.state_dict()}, "model.pt")
        (tmp_path / "tokenizer.model").write_bytes(tokenizer.model)
        [text] = generate(tmp_path / "model.pt", "--prompt", "x")["texts"]
        assert (text["tokens"], text["text"], text["ended"]) == ([mark], "", "mark")


def test_a_prompt_stands_after_the_mark_that_is_asked_for(artifact: Path, tokenizer: SentencePieceTokenizer) -> None:
    model = open_model(str(artifact), ()).model
    ids = tokenizer.encode("the of").tolist()
    for mark, token in (("bos", tokenizer.bos_id), ("eos", tokenizer.eos_id)):
        [text] = generate(artifact, "--prompt", "the of", "--temperature", 0, "--mark", mark)["texts"]
        with torch.no_grad():
            assert text["tokens"] == plainly(model, [token, *ids], CONTEXT, 50)


def test_yarn_stretches_the_context_from_the_trained_length(artifact: Path) -> None:
    prompt = "the of and " * 8
    assert generate(artifact, "--yarn", 4, "--prompt", prompt)["context"] == 4 * CONTEXT
    assert generate(artifact, "--yarn", 2, "--yarn-original", 100, "--prompt", "a")["context"] == 200
    stretch = ("--prompt", prompt, "--temperature", 0, "--yarn", 4)
    cached, uncached, hotter = (
        generate(artifact, *stretch, *more)["texts"][0]["tokens"]
        for more in ((), ("--no-cache",), ("--yarn-attention", 3.0))
    )
    assert cached == uncached
    assert cached != hotter


def cases() -> Iterator[tuple[str, list[str], str]]:
    yield "no such file", ["absent.golf", "--prompt", "a"], "no such file"
    yield "a folder without a model", ["empty", "--prompt", "a"], "holds none of"
    yield "a file of another kind", ["words.txt", "--prompt", "a"], "neither an artifact"
    yield "half a checkpoint", ["half.pt", "--prompt", "a"], "not a checkpoint"
    yield "a checkpoint of nothing", ["other.pt", "--prompt", "a"], "holds no config"
    yield "another vocabulary", ["model.golf", "--prompt", "a", "--tokenizer", "bytes.json"], "vocab_size is 400"
    yield "no tokenizer there", ["model.golf", "--prompt", "a", "--tokenizer", "absent"], "no such tokenizer"
    yield "weights that are no numbers", ["nan.pt", "--prompt", "a"], "holds NaN"
    yield "no prompt", ["model.golf"], "--prompt"
    yield "two kinds of prompt", ["model.golf", "--prompt", "a", "--prompts", "words.txt"], "not allowed"
    yield "an empty prompt", ["model.golf", "--prompt", ""], "empty"
    yield "half a character", ["model.golf", "--prompt", "a\udc80"], "UTF-8"
    yield "an endless prompt", ["model.golf", "--prompt", "x" * 500], "context 16"
    yield "prompts absent", ["model.golf", "--prompts", "absent.txt"], "absent.txt"
    yield "prompts that are bytes", ["model.golf", "--prompts", "latin.txt"], "not UTF-8 at byte 3"
    yield "an empty line", ["model.golf", "--prompts", "gap.txt"], "gap.txt:2"
    yield "no prompts at all", ["model.golf", "--prompts", "none.txt"], "empty"
    yield "no JSON", ["model.golf", "--prompts", "bad.jsonl"], "bad.jsonl:2"
    yield "many streams", ["model.golf", "--prompts", "two.txt", "--stream"], "--stream"
    yield "a negative temperature", ["model.golf", "--prompt", "a", "--temperature", "-1"], "temperature"
    yield "no number", ["model.golf", "--prompt", "a", "--temperature", "nan"], "temperature"
    yield "a share above one", ["model.golf", "--prompt", "a", "--top-p", "1.01"], "top_p"
    yield "no share", ["model.golf", "--prompt", "a", "--top-p", "0"], "top_p"
    yield "a negative k", ["model.golf", "--prompt", "a", "--top-k", "-3"], "top_k"
    yield "no penalty", ["model.golf", "--prompt", "a", "--repetition-penalty", "0"], "repetition_penalty"
    yield "no tokens", ["model.golf", "--prompt", "a", "--max-new-tokens", "0"], "--max-new-tokens"
    yield "a seed too large", ["model.golf", "--prompt", "a", "--seed", str(1 << 80)], "--seed"
    yield "a YaRN that shrinks", ["model.golf", "--prompt", "a", "--yarn", "0.5"], "yarn_factor"
    yield "half a YaRN", ["model.golf", "--prompt", "a", "--yarn-original", "7"], "--yarn FACTOR"


@pytest.mark.parametrize(("words", "says"), [case[1:] for case in cases()], ids=[case[0] for case in cases()])
def test_bad_input_is_one_line_that_says_what(
    words: list[str],
    says: str,
    artifact: Path,
    tokenizer: SentencePieceTokenizer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(artifact.parent)
    Path("empty").mkdir()
    Path("words.txt").write_text("some words")
    Path("half.pt").write_bytes(b"PK\x03\x04 and no more")
    torch.save({"config": 3}, "other.pt")
    model = GPT(ModelConfig(vocab_size=400, layers=1, dim=8, heads=1, kv_heads=1))
    torch.nn.init.constant_(model.blocks[0].attn.q.weight, torch.nan)
    said = {"model": to_dict(model.config), "train": {"seq_len": 8}}
    save_checkpoint(Path(), {"config": said, "weights": model.state_dict()}, "nan.pt")
    Path("tokenizer.model").write_bytes(tokenizer.model)
    Path("bytes.json").write_bytes(ByteTokenizer().model)
    Path("latin.txt").write_bytes(b"caf\xe9")
    Path("gap.txt").write_text("one\n\nthree\n")
    Path("none.txt").write_text("")
    Path("two.txt").write_text("one\ntwo\n")
    Path("bad.jsonl").write_text('"fine"\n{"text": 3}\n')
    assert run(parser(), act, show, words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert says in captured.err


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["micro26m"])
def test_512_tokens_come_five_times_as_fast_from_the_cache(preset: str, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    model = GPT(load(RunConfig, CONFIGS / f"{preset}.yaml").model).eval()
    texts, rates = [], []
    for cached in (True, False):
        started = time.perf_counter()
        texts.append([token for _, token in continued(model, [[BOS]], 1024, GREEDY, 512, 0, ends=(), cached=cached)])
        rates.append(512 / (time.perf_counter() - started))
    with capsys.disabled():
        print(f"{preset}: {rates[0]:.1f} tokens/s cached, {rates[1]:.1f} not, {torch.get_num_threads()} threads")
    assert texts[0] == texts[1]
    assert rates[0] >= 5 * rates[1]
