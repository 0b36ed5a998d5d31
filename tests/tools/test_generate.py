"""tools.generate: the same text cached and uncached, alone and in a batch, streamed or not; and bad input."""

import io
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from base.cli import run
from base.config import load
from data.tokenizer import ByteTokenizer, SentencePieceTokenizer, Tokenizer
from model.config import ModelConfig
from model.gpt import GPT
from tests.eval.tiny import CONTEXT, written
from tests.model.test_gpt import BOS, any_config, scrambled
from tests.tools.test_export_llama import save_run
from tools.generate import Generated, act, parser, show
from tools.generation import Prompt, Settings, TextDecoder, generate_tokens, trim_prompt, window_start
from tools.load_model import open_model
from tools.sampling import Sampling
from train_gpt import RunConfig

CONFIGS = Path(__file__).parents[2] / "configs/seeds"
MARKS = (BOS, 2)


def decode_greedily(model: GPT, prompt: list[int], context: int, count: int) -> list[int]:
    """The oracle: the complete view through the model, the likeliest token, again."""
    text = list(prompt)
    while len(text) < len(prompt) + count:
        start = 0
        while len(text) - start > context:
            start += max(1, context // 2)
        text.append(int(model(torch.tensor([text[start:]]))[0, -1].argmax()))
        if text[-1] in MARKS:
            break
    return text[len(prompt) :]


def decode_batch(
    model: GPT, prompts: list[list[int]], context: int, use_cache: bool = True, **sampling: Any
) -> list[list[int]]:
    made: list[list[int]] = [[] for _ in prompts]
    chosen = Sampling(**{"temperature": 0, "max_new_tokens": 12, **sampling})
    rule = Settings(context=context, sampling=chosen, marks=MARKS, use_cache=use_cache)
    for row, token in generate_tokens(model, [Prompt(prompt) for prompt in prompts], rule):
        made[row].append(token)
    return made


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
@torch.no_grad()
def test_greedy_text_matches_the_full_forward_for_every_feature_in_batches_and_beyond_the_context(seed: int) -> None:
    picks = random.Random(seed)
    model = scrambled(any_config(picks), seed, torch.float64)
    context = picks.randint(4, 14)
    prompts = [
        [BOS, *(picks.randrange(3, 50) for _ in range(picks.randrange(context)))] for _ in range(picks.randint(1, 4))
    ]
    expected = [decode_greedily(model, prompt, context, 12) for prompt in prompts]
    assert decode_batch(model, prompts, context) == expected
    assert decode_batch(model, prompts, context, use_cache=False) == expected


@torch.no_grad()
def test_greedy_text_matches_the_full_forward_in_fp32() -> None:
    for seed in range(10):
        model = scrambled(any_config(random.Random(seed)), seed, torch.float32)
        assert decode_batch(model, [[BOS, 7, 8]], 16) == [decode_greedily(model, [BOS, 7, 8], 16, 12)]


def test_a_prompt_draws_in_a_batch_what_it_draws_alone_and_the_seed_decides() -> None:
    model = scrambled(ModelConfig(vocab_size=50, dim=32, heads=4, layers=2, bos_id=BOS), 0, torch.float64)
    prompts = [[BOS, 5], [BOS, 9, 4, 30, 7, 22], [BOS, 5], [BOS]]
    warm = {"temperature": 1.5, "max_new_tokens": 20}
    together = decode_batch(model, prompts, 10, **warm)
    assert together == [decode_batch(model, [prompt], 10, **warm)[0] for prompt in prompts]
    assert together[0] == together[2]
    assert together != decode_batch(model, prompts, 10, seed=1, **warm)


@given(st.integers(1, 200), st.integers(1, 40))
def test_the_view_moves_by_half_contexts_and_always_fits(length: int, context: int) -> None:
    start = window_start(length, context)
    assert start == 0 if length <= context else length - context <= start < length
    assert start % max(1, context // 2) == 0
    assert length - start > context - max(1, context // 2) or length <= context  # no more drops out than must


def spell_tokens(tokenizer: Tokenizer) -> list[bytes]:
    return [piece.data for piece in tokenizer.pieces()]


@settings(max_examples=100)
@given(text=st.text(max_size=30), cut=st.integers(0, 3))
def test_decoded_text_is_complete_characters_that_add_up(
    tokenizer: SentencePieceTokenizer, text: str, cut: int
) -> None:
    for each in (tokenizer, ByteTokenizer()):
        decoder = TextDecoder(spell_tokens(each))
        parts = [decoder.decode(int(token)) for token in each.encode(text)]
        assert "".join(parts) + decoder.finish() == text
        assert "\ufffd" not in "".join(parts) or "\ufffd" in text
    decoder = TextDecoder(spell_tokens(ByteTokenizer()))
    half = "".join(decoder.decode(int(token)) for token in ByteTokenizer().encode("🙂")[:cut])
    assert half + decoder.finish() == ("\ufffd" if cut else "")


# -- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def artifact(tokenizer: SentencePieceTokenizer, tmp_path: Path) -> Path:
    return written(tmp_path, tokenizer)


def generate(*words: object) -> Generated:
    return act(parser().parse_args([str(word) for word in words]))


def test_an_artifact_a_run_and_its_checkpoint_open_alike(
    tokenizer: SentencePieceTokenizer, artifact: Path, tmp_path: Path
) -> None:
    config = ModelConfig(vocab_size=400, layers=1, dim=16, heads=2, kv_heads=1, bos_id=tokenizer.bos_id)
    folder = save_run(tmp_path / "run", GPT(config), tokenizer, CONTEXT)
    flags = ("--prompt", "the model", "--max-new-tokens", 30, "--temperature", 0)
    uncached = generate(folder, *flags, "--no-cache")
    for model in (folder, folder / "model.pt"):
        answer = generate(model, *flags)
        assert (answer.model, answer.context) == (str(folder / "model.pt"), CONTEXT)
        assert answer.texts == uncached.texts
    assert generate(artifact, "--prompt", "the").model == str(artifact)
    assert generate(artifact.parent, "--prompt", "the").model == str(artifact)


def test_a_prompt_that_ends_in_a_blank_continues_with_a_token_that_begins_with_it(
    artifact: Path, tokenizer: SentencePieceTokenizer
) -> None:
    data = spell_tokens(tokenizer)
    for flags in ((), ("--temperature", 0, "--no-repeat-ngram", 1), ("--no-cache",)):
        for prompt in ("the model ", "the", " "):
            for seed in range(4):
                words = (artifact, "--prompt", prompt, "--max-new-tokens", 6, "--seed", seed, *flags)
                [text] = generate(*words).texts
                spelled = b"".join(data[token] for token in text.tokens)
                if prompt.endswith(" "):
                    assert spelled.startswith(b" ")
                    spelled = spelled[1:]
                assert text.text == spelled.decode(errors="replace")
    assert trim_prompt(tokenizer.encode("a model").tolist(), data).is_first is None


def test_a_file_of_prompts_gives_what_each_gives_alone(artifact: Path, tmp_path: Path) -> None:
    prompts = ["the model", "naïve 日本", "of and of and of", " x"]
    (tmp_path / "p.txt").write_text("\n".join(prompts) + "\n", encoding="utf-8")
    lines = [json.dumps(prompt if at % 2 else {"prompt": prompt}) for at, prompt in enumerate(prompts)]
    (tmp_path / "p.jsonl").write_text("\n".join(lines), encoding="utf-8")
    flags = ("--max-new-tokens", 40, "--repetition-penalty", 1.3, "--no-repeat-ngram", 4, "--top-p", 0.95, "--seed", 3)
    alone = [generate(artifact, "--prompt", prompt, *flags).texts[0] for prompt in prompts]
    for name in ("p.txt", "p.jsonl"):
        answer = generate(artifact, "--prompts", tmp_path / name, *flags)
        assert answer.texts == alone
        assert answer.tokens == sum(len(text.tokens) for text in alone)
        assert all(prompt in show(answer) for prompt in prompts)


def test_a_stream_is_the_answer(
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
        model = GPT(ModelConfig(vocab_size=400, layers=1, dim=16, heads=2, kv_heads=2, tied=False))
        with torch.no_grad():
            assert model.head is not None
            model.head.weight.zero_()
            model.blocks[0].mlp.down.weight.zero_()
            model.blocks[0].attn.out.weight.zero_()
            model.embedding.table.weight.fill_(1)
            model.head.weight[mark] = 1
        [text] = generate(save_run(tmp_path, model, tokenizer), "--prompt", "x").texts
        assert (text.tokens, text.text, text.ended) == ([mark], "", "mark")


def test_a_prompt_follows_the_chosen_mark(artifact: Path, tokenizer: SentencePieceTokenizer) -> None:
    model = open_model(str(artifact), "model.golf").model
    ids = tokenizer.encode("the of").tolist()
    for mark, token in (("bos", tokenizer.bos_id), ("eos", tokenizer.eos_id)):
        [text] = generate(artifact, "--prompt", "the of", "--temperature", 0, "--mark", mark).texts
        with torch.no_grad():
            assert text.tokens == decode_greedily(model, [token, *ids], CONTEXT, 50)


def test_yarn_stretches_the_context_from_the_trained_length(artifact: Path) -> None:
    prompt = "the of and " * 8
    assert generate(artifact, "--yarn", 4, "--prompt", prompt).context == 4 * CONTEXT
    assert generate(artifact, "--yarn", 2, "--yarn-original", 100, "--prompt", "a").context == 200
    stretch = ("--prompt", prompt, "--temperature", 0, "--yarn", 4)
    cached = generate(artifact, *stretch).texts
    assert cached == generate(artifact, *stretch, "--no-cache").texts
    assert cached != generate(artifact, *stretch, "--yarn-attention", 3.0).texts


A = ["model.golf", "--prompt", "a"]
BAD_INPUT: list[tuple[list[str], str]] = [
    (["absent.golf", "--prompt", "a"], "no such file"),
    (["empty", "--prompt", "a"], "holds none of"),
    (["words.txt", "--prompt", "a"], "neither an artifact"),
    (["half.pt", "--prompt", "a"], "not a checkpoint"),
    (["other.pt", "--prompt", "a"], "holds no config"),
    (["nan.pt", "--prompt", "a"], "not finite"),
    ([*A, "--tokenizer", "bytes.json"], "vocab_size is 400"),
    ([*A, "--tokenizer", "absent"], "no such tokenizer"),
    (["model.golf"], "--prompt"),
    (["model.golf", "--prompt", ""], "empty"),
    (["model.golf", "--prompt", "a\udc80"], "UTF-8"),
    (["model.golf", "--prompt", "x" * 500], "context 16"),
    (["model.golf", "--prompts", "latin.txt"], "not UTF-8 at byte 3"),
    (["model.golf", "--prompts", "gap.txt"], "gap.txt:2"),
    (["model.golf", "--prompts", "bad.jsonl"], "bad.jsonl:2"),
    (["model.golf", "--prompts", "two.txt", "--stream"], "--stream"),
    ([*A, "--temperature", "-1"], "temperature"),
    ([*A, "--max-new-tokens", "0"], "max_new_tokens"),
    ([*A, "--yarn", "0.5"], "yarn_factor"),
    ([*A, "--yarn-original", "7"], "--yarn FACTOR"),
]


def test_bad_input_is_one_line_that_names_it(
    artifact: Path,
    tokenizer: SentencePieceTokenizer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(artifact.parent)
    model = GPT(ModelConfig(vocab_size=400, layers=1, dim=8, heads=1, kv_heads=1))
    torch.nn.init.constant_(model.blocks[0].attn.q.weight, torch.nan)
    save_run(Path(), model, tokenizer)
    Path("model.pt").rename("nan.pt")
    Path("empty").mkdir()
    torch.save({"config": 3}, "other.pt")
    files = {
        "words.txt": b"some words", "half.pt": b"PK\x03\x04 and no more", "bytes.json": ByteTokenizer().model,
        "latin.txt": b"caf\xe9", "gap.txt": b"one\n\nthree\n", "two.txt": b"one\ntwo\n",
        "bad.jsonl": b'"fine"\n{"text": 3}\n',
    }  # fmt: skip
    for name, data in files.items():
        Path(name).write_bytes(data)
    for words, message in BAD_INPUT:
        assert run(parser(), act, show, words) == 2, words
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert message in captured.err, words


@pytest.mark.slow
def test_512_tokens_come_five_times_as_fast_from_the_cache(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    model = GPT(load(RunConfig, CONFIGS / "micro26m.yaml").model).eval()
    greedy = Sampling(temperature=0, max_new_tokens=512)
    texts, rates = [], []
    for use_cache in (True, False):
        rule = Settings(context=1024, sampling=greedy, use_cache=use_cache)
        started = time.perf_counter()
        texts.append([token for _, token in generate_tokens(model, [Prompt([BOS])], rule)])
        rates.append(512 / (time.perf_counter() - started))
    with capsys.disabled():
        print(f"micro26m: {rates[0]:.1f} tokens/s cached, {rates[1]:.1f} not, {torch.get_num_threads()} threads")
    assert texts[0] == texts[1]
    assert rates[0] >= 5 * rates[1]
