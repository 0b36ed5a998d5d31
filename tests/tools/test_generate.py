"""tools.generate: the same text with and without the cache, streamed or not, for every feature; and bad input."""

import io
import json
import random
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.tokenizer import ByteTokenizer, SentencePieceTokenizer
from model.config import ModelConfig
from model.gpt import GPT
from tests.eval.tiny import CONTEXT, written
from tests.model.test_gpt import BOS, any_config, scrambled
from tests.runs import printed, refusal
from tests.tools.test_export_llama import save_run
from tools.generate import Generated, act, generate_tokens, parser, window_start
from tools.load_model import open_model
from tools.sampling import Sampling

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


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6))
@torch.no_grad()
def test_greedy_text_matches_the_full_forward_for_every_feature_and_beyond_the_context(seed: int) -> None:
    picks = random.Random(seed)
    model = scrambled(any_config(picks), seed, torch.float64)
    context = picks.randint(4, 14)
    greedy = Sampling(temperature=0, max_new_tokens=12)
    prompt = [BOS, *(picks.randrange(3, 50) for _ in range(picks.randrange(context)))]
    expected = decode_greedily(model, prompt, context, 12)
    for use_cache in (True, False):
        assert list(generate_tokens(model, prompt, greedy, context, MARKS, use_cache)) == expected


@given(st.integers(1, 200), st.integers(1, 40))
def test_the_view_moves_by_half_contexts_and_always_fits(length: int, context: int) -> None:
    start = window_start(length, context)
    assert start == 0 if length <= context else length - context <= start < length
    assert start % max(1, context // 2) == 0
    assert length - start > context - max(1, context // 2) or length <= context  # no more drops out than must


# -- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def artifact(tokenizer: SentencePieceTokenizer, tmp_path: Path) -> Path:
    return written(tmp_path, tokenizer)


def generate(*words: object) -> Generated:
    return act(parser().parse_args([str(word) for word in words]))


def test_artifact_and_checkpoint_open_alike(tokenizer: SentencePieceTokenizer, artifact: Path, tmp_path: Path) -> None:
    config = ModelConfig(vocab_size=400, layers=1, dim=16, heads=2, kv_heads=1, bos_id=tokenizer.bos_id)
    folder = save_run(tmp_path / "run", GPT(config), tokenizer, CONTEXT)
    flags = ("--prompt", "the model", "--max-new-tokens", 30, "--temperature", 0)
    uncached = generate(folder, *flags, "--no-cache")
    for model in (folder, folder / "model.pt"):
        answer = generate(model, *flags)
        assert (answer.model, answer.context) == (str(folder / "model.pt"), CONTEXT)
        assert answer.tokens == uncached.tokens
    assert generate(artifact, "--prompt", "the").model == str(artifact)
    assert generate(artifact.parent, "--prompt", "the").model == str(artifact)


def test_a_text_is_its_tokens_decoded_and_the_seed_decides(artifact: Path, tokenizer: SentencePieceTokenizer) -> None:
    spellings = [piece.data for piece in tokenizer.pieces()]
    texts = []
    for prompt in ("the model ", "naïve 日本", ""):
        for seed in (3, 3, 4):
            answer = generate(artifact, "--prompt", prompt, "--temperature", 3, "--top-p", 1, "--seed", seed)
            data = b"".join(spellings[token] for token in answer.tokens)
            assert answer.text == data.decode(errors="replace")
            texts.append(answer.text)
        assert texts[-3] == texts[-2] != texts[-1]


def test_a_stream_is_the_answer(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "__stdout__", pipe)
    words = [str(artifact), "--prompt", "日本 ", "--max-new-tokens", "60", "--temperature", "3", "--top-p", "1"]
    assert printed("tools.generate", *words, "--stream")[0] == ""
    assert pipe.getvalue() == printed("tools.generate", *words)[0]
    out, err = printed("tools.generate", *words, "--stream", "--json")
    answer = json.loads(out)
    assert err == answer["prompt"] + answer["text"] + "\n" == pipe.getvalue()


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
        answer = generate(save_run(tmp_path, model, tokenizer), "--prompt", "x")
        assert (answer.tokens, answer.text, answer.ended) == ([mark], "", "mark")


def test_a_prompt_follows_the_chosen_mark(artifact: Path, tokenizer: SentencePieceTokenizer) -> None:
    model = open_model(str(artifact), "model.golf").model
    ids = tokenizer.encode("the of").tolist()
    for mark, token in (("bos", tokenizer.bos_id), ("eos", tokenizer.eos_id)):
        answer = generate(artifact, "--prompt", "the of", "--temperature", 0, "--mark", mark)
        with torch.no_grad():
            assert answer.tokens == decode_greedily(model, [token, *ids], CONTEXT, 50)


def test_yarn_stretches_the_context_from_the_trained_length(artifact: Path) -> None:
    prompt = "the of and " * 8
    assert generate(artifact, "--yarn", 4, "--prompt", prompt).context == 4 * CONTEXT
    assert generate(artifact, "--yarn", 2, "--yarn-original", 100, "--prompt", "a").context == 200
    stretch = ("--prompt", prompt, "--temperature", 0, "--yarn", 4)
    cached = generate(artifact, *stretch).tokens
    assert cached == generate(artifact, *stretch, "--no-cache").tokens
    assert cached != generate(artifact, *stretch, "--yarn-attention", 3.0).tokens


A = ["model.golf", "--prompt", "a"]
BAD_INPUT: list[tuple[list[str], str]] = [
    (["absent.golf", "--prompt", "a"], "no such file"),
    (["words.txt", "--prompt", "a"], "neither an artifact"),
    (["half.pt", "--prompt", "a"], "not a checkpoint"),
    (["other.pt", "--prompt", "a"], "holds no config"),
    (["nan.pt", "--prompt", "a"], "not finite"),
    ([*A, "--tokenizer", "bytes.json"], "vocab_size is 400"),
    ([*A, "--tokenizer", "absent"], "no such tokenizer"),
    (["model.golf"], "--prompt"),
    (["model.golf", "--prompt", "a\udc80"], "UTF-8"),
    (["model.golf", "--prompt", "x" * 500], "context 16"),
    ([*A, "--temperature", "-1"], "temperature"),
    ([*A, "--yarn-original", "7"], "--yarn FACTOR"),
]


def test_bad_input_is_named(artifact: Path, tokenizer: SentencePieceTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(artifact.parent)
    model = GPT(ModelConfig(vocab_size=400, layers=1, dim=8, heads=1, kv_heads=1))
    torch.nn.init.constant_(model.blocks[0].attn.q.weight, torch.nan)
    save_run(Path(), model, tokenizer)
    Path("model.pt").rename("nan.pt")
    torch.save({"config": 3}, "other.pt")
    Path("words.txt").write_bytes(b"some words")
    Path("half.pt").write_bytes(b"PK\x03\x04 and no more")
    Path("bytes.json").write_bytes(ByteTokenizer().model)
    for words, message in BAD_INPUT:
        assert message in refusal("tools.generate", *words)
