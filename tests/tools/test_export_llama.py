"""tools.export_llama: Hugging Face's logits are ours, what comes back is what went out, and what cannot go is named."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from base.config import load, to_dict
from base.errors import BadInput
from data.tokenizer import ByteTokenizer, SentencePieceTokenizer, Tokenizer
from engine.saver import save_model
from model.config import ModelConfig
from model.gpt import GPT
from tests.runs import printed, refusal
from tools import export_llama, generate
from tools.export_llama import Export, act, compare_logits, load_with_transformers, parser, write_llama
from tools.llama import kept_by_llama, llama_weights, require_supported
from tools.load_model import OpenModel
from train_gpt import RunConfig

pytest.importorskip("transformers", reason="the oracle is not installed")

CONFIGS = Path(__file__).parents[2] / "configs/seeds"
PRESETS = ("albor50m", "albor125m", "albor350m", "rscalm138m", "rscalm350m", "rscalm700m", "micro26m")
LLAMA = ModelConfig(
    vocab_size=400, layers=2, dim=32, heads=4, kv_heads=2, hidden=80, norm="rms_weight", norm_eps=1e-5, rope_base=1e5
)


def shrink(preset: str) -> ModelConfig:
    """The preset at an eighth of its width and two layers, with its own ratios of heads and hidden width."""
    config = load(RunConfig, CONFIGS / f"{preset}.yaml").model
    return replace(config, layers=2, vocab_size=400, dim=config.dim // 8, hidden=config.hidden_width // 8)


def save_run(folder: Path, model: GPT, tokenizer: Tokenizer, seq_len: int = 64) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model": to_dict(model.config), "train": {"seq_len": seq_len}, "data": {"path": "nowhere"}}
    save_model(folder, config, model.state_dict())
    (folder / "tokenizer.model").write_bytes(tokenizer.model)
    return folder


def export(source: Path, out: Path, *flags: object) -> Export:
    return act(parser().parse_args([str(source), "--out", str(out), *map(str, flags)]))


def make_model(config: ModelConfig, seed: int = 0) -> GPT:
    """Logits like a trained model's, and no parameter that is a plain 0 or 1."""
    torch.manual_seed(seed)
    model = GPT(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim < 2:
                parameter.copy_(1 + 0.3 * torch.randn_like(parameter))
            else:
                parameter.copy_(torch.randn_like(parameter) / parameter.shape[1] ** 0.5)
    return model


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_every_llama_of_the_seeds_matches_hugging_face(tokenizer: SentencePieceTokenizer, tmp_path: Path) -> None:
    for preset in PRESETS:
        model = make_model(shrink(preset))
        out = tmp_path / preset / "out"
        answer = export(save_run(tmp_path / preset / "run", model, tokenizer), out)
        assert (answer.path, answer.argmax_agreement, answer.same_token_ids) == (str(out), 1, True)
        assert answer.max_logit_difference <= 1e-4
        assert same(load_file(out / "model.safetensors"), llama_weights(model.state_dict(), model.config))


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_every_supported_config_matches_hugging_face(
    seed: int, tokenizer: SentencePieceTokenizer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    picks = random.Random(seed)
    folder = tmp_path_factory.mktemp("any")
    config = replace(
        LLAMA, layers=picks.randint(1, 3), heads=4, kv_heads=picks.choice([1, 2, 4]), head_dim=picks.choice([0, 12]),
        tied=picks.random() < 0.5, norm=picks.choice(["rms", "rms_weight"]),
        yarn_factor=picks.choice([1.0, 8.0]), yarn_original=16, yarn_attention=picks.choice([None, 1.0]),
        dropout=picks.choice([0.0, 0.1]), hidden=picks.choice([48, 80]),
    )  # fmt: skip
    answer = export(save_run(folder, make_model(config, seed), tokenizer), folder / "out")
    assert answer.max_logit_difference <= 1e-4
    assert answer.argmax_agreement == 1


def test_tokens_that_tie_agree_and_others_do_not() -> None:
    def first(gap: float) -> Any:
        return lambda tokens: torch.tensor([0.0, gap, -1.0]).expand(*tokens.shape, 3)

    difference, agreement = compare_logits(first(1e-5), first(-1e-5), 4)
    assert difference == pytest.approx(2e-5)
    assert agreement == 1
    assert compare_logits(first(0.1), first(-0.1), 4)[1] == 0


def test_yarn_and_greedy_text_match_hugging_face(tokenizer: SentencePieceTokenizer, tmp_path: Path) -> None:
    import transformers

    source = save_run(tmp_path / "run", make_model(LLAMA), tokenizer, seq_len=16)
    out = tmp_path / "out"
    export(source, out, "--yarn", 16, "--yarn-attention", 1.0)
    scaling = json.loads((out / "config.json").read_text())["rope_scaling"]
    assert scaling == {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 16,
                       "beta_fast": 32.0, "beta_slow": 1.0, "attention_factor": 1.0}  # fmt: skip
    theirs = transformers.LlamaForCausalLM.from_pretrained(out, dtype=torch.float32)
    ids = torch.tensor([[1, *tokenizer.encode("the model of bytes").tolist()]])
    reference = theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=60, do_sample=False)
    words = [str(source), "--yarn", "16", "--yarn-attention", "1.0", "--prompt", "the model of bytes"]
    ours = generate.act(generate.parser().parse_args([*words, "--temperature", "0", "--max-new-tokens", "60"]))
    assert ours.context == 256
    assert ours.tokens == reference[0, ids.shape[1] :].tolist()


# -- what is refused ------------------------------------------------------------------------------------------------

FIELDS: dict[str, Any] = {
    "mlp": "relu2", "norm": "none", "norm_order": "post", "pos": "none", "rope_dims": 4, "qk_norm": True, "xsa": 1,
    "doc_mask": True, "softcap": 30.0, "smear": "static", "bigram_buckets": 16, "skips": "plain", "resid_mix": True,
    "parallel_from": 0, "loop_repeats": 1, "ln_scale": True, "branch_scale": True, "embed_norm": True, "q_gain": 1.5,
    "attn_gate": 0.5, "canonical": True,
}  # fmt: skip


def test_each_feature_that_llama_lacks_is_refused() -> None:
    for name, value in FIELDS.items():
        config = replace(LLAMA, **{name: value})
        with pytest.raises(BadInput, match=f"model.pt: a LLaMA has no place for {name}={value};"):
            require_supported(config, kept_by_llama(config, "model.pt"), "model.pt", "a LLaMA")


def test_a_failed_export_leaves_no_folder(
    tokenizer: SentencePieceTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [str(save_run(tmp_path / "run", make_model(LLAMA), tokenizer)), "--out", str(tmp_path / "out"), "--json"]
    other = make_model(LLAMA, 1)
    faults: list[tuple[str, Any, int, str]] = [
        ("find_spec", lambda name: None, 2, "pip install"),
        ("load_with_transformers", lambda folder: other, 1, "logits differ"),
        ("has_same_token_ids", lambda folder, tokenizer: False, 1, "other ids"),
    ]
    for name, fault, code, message in faults:
        with monkeypatch.context() as patch:
            patch.setattr(export_llama, name, fault)
            out, err = printed("tools.export_llama", *words, code=code)
        assert message in err
        if code == 1:
            assert set(json.loads(out)) >= {"path", "max_logit_difference", "argmax_agreement"}
        assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert "exists already" in refusal("tools.export_llama", *words[:2], words[0])


# -- tokenizers -----------------------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(text=st.one_of(st.text(max_size=40), st.text(alphabet="aeno \n\t=0▁<s>é日🙂", max_size=60)))
def test_hugging_face_gives_our_ids_on_any_text(text: str, hf_tokenizers: list[tuple[Tokenizer, Any]]) -> None:
    for ours, theirs in hf_tokenizers:
        ids = theirs(text, add_special_tokens=False)["input_ids"]
        assert ids == ours.encode(text).tolist()
        assert theirs.decode(ids) == text


@pytest.fixture(scope="module")
def hf_tokenizers(
    tokenizer: SentencePieceTokenizer, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[Tokenizer, Any]]:
    import transformers

    pairs: list[tuple[Tokenizer, Any]] = []
    for ours in (tokenizer, ByteTokenizer()):
        folder = tmp_path_factory.mktemp("tokenizer")
        export(save_run(folder / "run", make_model(replace(LLAMA, vocab_size=ours.vocab_size)), ours), folder / "out")
        theirs = transformers.AutoTokenizer.from_pretrained(folder / "out")
        assert (theirs.bos_token_id, theirs.eos_token_id) == (ours.bos_id, ours.eos_id)
        assert (theirs.pad_token_id, theirs.unk_token_id) == (ours.pad_id, ours.unk_id)
        pairs.append((ours, theirs))
    return pairs


def test_a_normalizing_tokenizer_stays_its_own_file(contest_tokenizer: SentencePieceTokenizer, tmp_path: Path) -> None:
    config = replace(LLAMA, vocab_size=contest_tokenizer.vocab_size)
    out = tmp_path / "out"
    answer = export(save_run(tmp_path / "run", make_model(config), contest_tokenizer), out)
    assert answer.same_token_ids is None
    assert not (out / "tokenizer.json").exists()
    assert (out / "tokenizer.model").read_bytes() == contest_tokenizer.model


@pytest.mark.slow
def test_rscalm138m_at_full_size_matches_hugging_face(
    tokenizer: SentencePieceTokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load(RunConfig, CONFIGS / "rscalm138m.yaml").model
    model = make_model(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == 137_841_408
    write_llama(OpenModel(tmp_path, model, tokenizer, 1024), tmp_path)  # the tokenizer, a smaller one, is not used
    difference, agreement = compare_logits(model, load_with_transformers(tmp_path), 128)
    with capsys.disabled():
        print(f"rscalm138m: logits within {difference:.2g}, argmax agreement {agreement:.0%}")
    assert difference <= 1e-4
    assert agreement == 1
