"""tools.export_llama: Hugging Face's logits are ours, what comes back is what went, and what cannot go is named."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from base.cli import run
from base.config import load, to_dict
from data.tokenizer import ByteTokenizer, SentencePieceTokenizer, Tokenizer
from engine.checkpoint import save_checkpoint
from model.config import ModelConfig
from model.gpt import GPT
from tests.eval.tiny import written
from tests.model.test_gpt import GOLF
from tools import export_llama
from tools.export_llama import act, compared, hugging_face, parser, show, write_llama
from tools.generate import act as generate
from tools.generate import parser as generate_parser
from tools.generation import continued
from tools.llama import forbidding, halved, llama_names, neighbouring, plain
from tools.llama_tokenizer import tokenizer_json
from tools.load_model import Opened, open_model
from tools.sampling import Sampling
from train_gpt import RunConfig

pytest.importorskip("transformers", reason="the oracle is not installed")

CONFIGS = Path(__file__).parents[2] / "configs"
PRESETS = ("albor50m", "albor125m", "albor350m", "rscalm138m", "rscalm350m", "rscalm700m", "micro26m")
LLAMA = ModelConfig(
    vocab_size=400, layers=2, dim=32, heads=4, kv_heads=2, hidden=80, norm="rms_weight", norm_eps=1e-5, rope_base=1e5
)
RSCALM = replace(LLAMA, kv_heads=4, hidden=128, norm_eps=1e-6)


def small(preset: str) -> ModelConfig:
    """The preset at an eighth of its width and two layers: its own ratios of heads, hidden width and vocabulary."""
    config = load(RunConfig, CONFIGS / f"{preset}.yaml").model
    return replace(config, layers=2, vocab_size=400, dim=config.dim // 8, hidden=config.hidden_width // 8)


def saved(folder: Path, model: GPT, tokenizer: Tokenizer, seq_len: int = 64) -> Path:
    folder.mkdir(exist_ok=True)
    said = {"model": to_dict(model.config), "train": {"seq_len": seq_len}, "data": {"path": "nowhere"}}
    save_checkpoint(folder, {"config": said, "weights": model.state_dict()}, "model.pt")
    (folder / "tokenizer.model").write_bytes(tokenizer.model)
    return folder


def exported(source: Path, out: Path, *flags: object) -> dict[str, Any]:
    return act(parser().parse_args([str(source), "--out", str(out), *map(str, flags)]))


def awake(config: ModelConfig, seed: int = 0) -> GPT:
    """A model with logits like a trained one's, none of whose parameters is a plain 0 or 1."""
    torch.manual_seed(seed)
    model = GPT(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim < 2:
                parameter.copy_(1 + 0.3 * torch.randn_like(parameter))
            else:
                parameter.copy_(torch.randn_like(parameter) / parameter.shape[1] ** 0.5)
    return model


@pytest.mark.parametrize("preset", PRESETS)
def test_every_llama_of_the_seeds_has_hugging_faces_logits_and_comes_back(
    preset: str, tokenizer: SentencePieceTokenizer, tmp_path: Path
) -> None:
    model = awake(small(preset))
    answer = exported(saved(tmp_path / "run", model, tokenizer), tmp_path / "out")
    assert answer["compared_with"].startswith("transformers")
    assert answer["max_logit_difference"] <= 1e-4
    assert answer["argmax_agreement"] == 1
    assert answer["positions"] >= 64
    assert answer["import_bit_exact"]
    assert answer["tokenizer_agrees"]
    back = open_model(str(tmp_path / "out"), ())
    assert (back.seq_len, back.tokenizer.model) == (64, tokenizer.model)
    assert same(model.state_dict(), back.model.state_dict())
    assert spelled_out(back.model.config) == spelled_out(model.config)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def spelled_out(config: ModelConfig) -> ModelConfig:
    """What matters to a trained LLaMA's function, in one spelling."""
    return replace(
        config, head_dim=config.head_width, hidden=config.hidden_width, mlp_mult=4.0,
        yarn_original=config.yarn_original if config.yarn_factor > 1 else 2048,
    )  # fmt: skip


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6))
def test_whatever_is_not_forbidden_has_hugging_faces_logits(
    seed: int, tokenizer: SentencePieceTokenizer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    picks, folder = random.Random(seed), tmp_path_factory.mktemp("any")
    config = replace(
        LLAMA, layers=picks.randint(1, 3), heads=4, kv_heads=picks.choice([1, 2, 4]), head_dim=picks.choice([0, 12]),
        tied=picks.random() < 0.5, norm=picks.choice(["rms", "rms_weight"]), ln_scale=picks.random() < 0.5,
        branch_scale=picks.random() < 0.5, embed_norm=picks.random() < 0.5, q_gain=picks.choice([None, 1.5]),
        yarn_factor=picks.choice([1.0, 8.0]), yarn_original=16, yarn_attention=picks.choice([None, 1.0]),
        dropout=picks.choice([0.0, 0.1]), hidden=picks.choice([48, 80]),
    )  # fmt: skip
    answer = exported(saved(folder, awake(config, seed), tokenizer), folder / "out")
    assert answer["max_logit_difference"] <= 1e-4
    assert answer["argmax_agreement"] == 1
    assert answer["import_bit_exact"]


def test_what_is_folded_leaves_the_function_alone() -> None:
    config = replace(LLAMA, norm="rms", ln_scale=True, branch_scale=True, embed_norm=True, q_gain=1.5)
    model = awake(config).double()
    tokens = torch.randint(400, (2, 40))
    folded = plain(model).double()
    assert folded.config.norm == "rms_weight"
    assert not folded.config.tied
    assert (model(tokens) - folded(tokens)).abs().max() < 1e-4
    assert plain(awake(LLAMA)).config == LLAMA


def test_yarn_at_export_and_greedy_text_are_hugging_faces_too(
    tokenizer: SentencePieceTokenizer, tmp_path: Path
) -> None:
    import transformers

    source = saved(tmp_path / "run", awake(LLAMA), tokenizer, seq_len=16)
    answer = exported(source, tmp_path / "out", "--yarn", 16, "--yarn-attention", 1.0)
    assert answer["positions"] >= 64
    scaling = json.loads((tmp_path / "out" / "config.json").read_text())["rope_scaling"]
    assert scaling == {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 16,
                       "beta_fast": 32.0, "beta_slow": 1.0, "attention_factor": 1.0}  # fmt: skip
    ours = open_model(str(tmp_path / "out"), ())
    assert (ours.seq_len, ours.context) == (16, 256)
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    prompt = [1, *tokenizer.encode("the model of bytes").tolist()]
    text = [token for _, token in continued(ours.model, [prompt], 256, Sampling(temperature=0), 60, 0, ends=(2,))]
    ids = torch.tensor([prompt])
    reference = theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=60, do_sample=False)
    assert text == reference[0, len(prompt) :].tolist()


# -- seed 001 -------------------------------------------------------------------------------------------------------


def rscalm_forward(weights: dict[str, torch.Tensor], config: dict[str, Any], tokens: torch.Tensor) -> torch.Tensor:
    """Seed 001's model, written out from its document: the oracle for its layout. Pairs (2i, 2i + 1) turn."""
    heads, width = config["n_head"], config["d_model"] // config["n_head"]

    def norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight

    def turned(x: torch.Tensor) -> torch.Tensor:  # (B, H, T, C)
        angle = torch.arange(x.shape[2])[:, None] * config["rope_base"] ** (-torch.arange(0, width, 2) / width)
        a, b, cos, sin = x[..., 0::2], x[..., 1::2], angle.cos(), angle.sin()
        return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)

    x = weights["tok_emb.weight"][tokens]
    for layer in range(config["n_layer"]):
        w = {name.split(".", 2)[2]: tensor for name, tensor in weights.items() if name.startswith(f"blocks.{layer}.")}
        n = norm(x, w["norm1.weight"]) @ w["attn.qkv.weight"].T
        q, k, v = (part.unflatten(-1, (heads, width)).transpose(1, 2) for part in n.chunk(3, dim=-1))
        seen = F.scaled_dot_product_attention(turned(q), turned(k), v, is_causal=True)
        x = x + seen.transpose(1, 2).flatten(-2) @ w["attn.proj.weight"].T
        n = norm(x, w["norm2.weight"])
        x = x + (F.silu(n @ w["mlp.w1.weight"].T) * (n @ w["mlp.w2.weight"].T)) @ w["mlp.w3.weight"].T
    return norm(x, weights["norm.weight"]) @ weights["lm_head.weight"].T


def test_the_files_of_seed_001_hold_its_model_under_its_names(
    tokenizer: SentencePieceTokenizer, tmp_path: Path
) -> None:
    model = awake(RSCALM)
    answer = exported(saved(tmp_path / "run", model, tokenizer), tmp_path / "out", "--layout", "rscalm")
    assert answer["files"] == sorted(
        ["ckpt_last.pt", "ckpt_best.pt", "pytorch_model.bin", "config.json", "tokenizer.model"]
    )
    parts = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.w1", "mlp.w2", "mlp.w3")
    names = {"tok_emb.weight", "lm_head.weight", "norm.weight"}
    names |= {f"blocks.{layer}.{part}.weight" for layer in range(2) for part in parts}
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    tokens = torch.randint(400, (2, 40))
    for file in ("ckpt_last.pt", "ckpt_best.pt"):
        state = torch.load(tmp_path / "out" / file, weights_only=True)
        assert set(state) == {"model", "config", "optim", "scaler"}
        assert state["config"] == config
        assert set(state["model"]) == names
        assert same(state["model"], torch.load(tmp_path / "out" / "pytorch_model.bin", weights_only=True))
        assert (rscalm_forward(state["model"], config, tokens) - model(tokens)).abs().max() < 1e-4
        back = open_model(str(tmp_path / "out" / file), ())
        assert same(back.model.state_dict(), model.state_dict())
        assert spelled_out(back.model.config) == spelled_out(RSCALM)


def test_a_compiled_checkpoint_of_seed_001_becomes_a_llama_and_text(
    tokenizer: SentencePieceTokenizer, tmp_path: Path
) -> None:
    exported(saved(tmp_path / "run", awake(RSCALM), tokenizer), tmp_path / "old", "--layout", "rscalm")
    state = torch.load(tmp_path / "old" / "ckpt_last.pt", weights_only=True)
    state["model"] = {f"_orig_mod.{name}": tensor for name, tensor in state["model"].items()}
    (tmp_path / "compiled").mkdir()
    checkpoint, spm = tmp_path / "compiled" / "ckpt_last.pt", tmp_path / "old" / "tokenizer.model"
    torch.save(state, checkpoint)
    answer = exported(checkpoint, tmp_path / "hf", "--tokenizer", spm)
    assert answer["max_logit_difference"] <= 1e-4
    assert answer["argmax_agreement"] == 1
    words = [str(checkpoint), "--tokenizer", str(spm), "--prompt", "The sun is", "--temperature", "0"]
    text = generate(generate_parser().parse_args(words))["texts"][0]["tokens"]
    again = generate(generate_parser().parse_args([str(tmp_path / "hf"), *words[3:]]))["texts"][0]["tokens"]
    assert text == again
    assert text


@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 4))
def test_the_permutation_pairs_neighbours_and_comes_back(heads: int, pairs: int, columns: int) -> None:
    rows = torch.randn(heads * 2 * pairs, columns)
    there = neighbouring(rows, heads)
    assert torch.equal(halved(there, heads), rows)
    for head in range(heads):
        at = head * 2 * pairs
        for pair in range(pairs):
            assert torch.equal(there[at + 2 * pair], rows[at + pair])
            assert torch.equal(there[at + 2 * pair + 1], rows[at + pairs + pair])


# -- back, and what cannot go ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["llama", "rscalm"])
def test_the_way_back_to_our_own_checkpoint_is_bit_exact(
    layout: str, tokenizer: SentencePieceTokenizer, tmp_path: Path
) -> None:
    model = awake(RSCALM)
    exported(saved(tmp_path / "run", model, tokenizer), tmp_path / "there", "--layout", layout)
    answer = exported(tmp_path / "there", tmp_path / "back", "--layout", "bitgolf")
    assert answer["max_logit_difference"] == 0
    back = open_model(str(tmp_path / "back" / "model.pt"), ())
    assert same(back.model.state_dict(), model.state_dict())
    assert (back.seq_len, back.tokenizer.model) == (64, tokenizer.model)
    assert "model.pt" in show(answer)


FIELDS = {
    "mlp": "relu2", "norm": "none", "norm_order": "post", "pos": "none", "rope_dims": 4, "qk_norm": True, "xsa": 1,
    "doc_mask": True, "softcap": 30.0, "smear": "static", "bigram_buckets": 16, "skips": "plain", "resid_mix": True,
    "parallel_from": 0, "loop_repeats": 1,
}  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_each_feature_that_llama_lacks_is_forbidden(name: str) -> None:
    assert forbidding(replace(LLAMA, **{name: FIELDS[name]})) == {name: FIELDS[name]}


def test_every_field_of_a_config_is_either_forbidden_folded_or_exported() -> None:
    named = {*FIELDS, "layers", "dim", "vocab_size", "heads", "kv_heads", "head_dim", "hidden", "mlp_mult", "tied",
             "norm_eps", "rope_base", "bos_id"}  # fmt: skip
    named |= {f"yarn_{part}" for part in ("factor", "original", "beta_fast", "beta_slow", "attention")}
    folded = {"branch_scale", "ln_scale", "q_gain", "embed_norm"}
    of_forbidden = {"smear_bos_mask", "bigram_dim", "loop_first", "loop_last", "loop_start"}
    of_training = {"dropout", "init", "init_std", "embed_std"}
    assert named | folded | of_forbidden | of_training == set(to_dict(LLAMA))


def test_one_error_names_every_field_that_forbids(
    tokenizer: SentencePieceTokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golf = {
        **GOLF,
        "vocab_size": 400,
        "layers": 2,
        "dim": 32,
        "heads": 4,
        "kv_heads": 4,
        "hidden": 64,
        "bigram_buckets": 8,
    }
    run_folder = saved(tmp_path / "run", GPT(ModelConfig(**golf)), tokenizer)
    assert run(parser(), act, show, [str(run_folder), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    for field in ("mlp=relu2", "qk_norm", "softcap", "smear", "bigram_buckets", "skips", "resid_mix"):
        assert field in said
    assert not (tmp_path / "out").exists()
    grouped = saved(tmp_path / "grouped", awake(LLAMA), tokenizer)
    assert run(parser(), act, show, [str(grouped), "--out", str(tmp_path / "out"), "--layout", "rscalm"]) == 2
    said = capsys.readouterr().err
    assert "kv_heads=2" in said
    assert "norm_eps=1e-05" in said
    assert run(parser(), act, show, [str(run_folder), "--out", str(tmp_path / "out"), "--layout", "bitgolf"]) == 0


def test_an_artifact_can_be_exported_as_our_own_checkpoint(tokenizer: SentencePieceTokenizer, tmp_path: Path) -> None:
    answer = exported(written(tmp_path, tokenizer), tmp_path / "out", "--layout", "bitgolf")
    assert answer["import_bit_exact"]


def test_wrong_logits_wrong_ids_and_a_missing_oracle_are_failures(
    tokenizer: SentencePieceTokenizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = saved(tmp_path / "run", awake(LLAMA), tokenizer)

    def ended(name: str) -> tuple[int, dict[str, Any], str]:
        code = run(parser(), act, show, [str(source), "--out", str(tmp_path / name), "--json"])
        captured = capsys.readouterr()
        return code, json.loads(captured.out), captured.err

    with monkeypatch.context() as patch:
        patch.setattr(export_llama, "find_spec", lambda name: None)
        code, answer, said = ended("unchecked")
        assert (code, answer["max_logit_difference"], answer["compared_with"]) == (1, None, None)
        assert "pip install" in said
        assert (tmp_path / "unchecked" / "model.safetensors").exists()
        assert "model.safetensors" in show(answer)
    with monkeypatch.context() as patch:
        patch.setattr(export_llama, "hugging_face", lambda folder: (awake(LLAMA, 1), "another model"))
        code, answer, said = ended("wrong")
        assert code == 1
        assert answer["max_logit_difference"] > 0.1
        assert "logits differ" in said
    with monkeypatch.context() as patch:
        patch.setattr(export_llama, "same_ids", lambda folder, tokenizer: False)
        assert ended("ids")[0] == 1


@pytest.mark.parametrize(
    ("edit", "says"),
    [({"hidden_act": "gelu"}, "hidden_act=gelu"), ({"attention_bias": True}, "attention_bias"),
     ({"model_type": "gemma"}, "model_type=gemma"), ({"rope_scaling": {"rope_type": "linear"}}, "rope_type=linear"),
     ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "truncate": False}}, "truncate=False in RoPE"),
     ({"rope_scaling": "yarn"}, "no object"),
     ({"hidden_size": None}, "says no hidden_size"), ({"num_hidden_layers": 3}, "missing"),
     ({"num_hidden_layers": 1}, "not in this model"), ({"num_attention_heads": 5}, "not divisible"),
     ({"intermediate_size": 81}, "has shape"), ({"rms_norm_eps": "x"}, "norm_eps")],
)  # fmt: skip
def test_a_llama_that_is_not_ours_is_refused_in_one_line(
    edit: dict[str, Any],
    says: str,
    tokenizer: SentencePieceTokenizer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    exported(saved(tmp_path / "run", awake(LLAMA), tokenizer), out)
    values = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({k: v for k, v in (values | edit).items() if v is not None}))
    capsys.readouterr()
    assert run(parser(), act, show, [str(out), "--out", str(tmp_path / "back"), "--layout", "bitgolf"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert says in said


def test_a_broken_folder_is_refused_in_one_line(
    tokenizer: SentencePieceTokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    source = saved(tmp_path / "run", awake(LLAMA), tokenizer)
    exported(source, out)
    whole = (out / "model.safetensors").read_bytes()
    (out / "model.safetensors").write_bytes(whole[:5000])
    words = ["--out", str(tmp_path / "back"), "--layout", "bitgolf"]
    assert run(parser(), act, show, [str(out), *words]) == 2
    (out / "model.safetensors").write_bytes(whole)
    (out / "config.json").write_text("{")
    assert run(parser(), act, show, [str(out), *words]) == 2
    (out / "config.json").unlink()
    assert run(parser(), act, show, [str(out), *words]) == 2
    assert run(parser(), act, show, [str(source), "--out", str(out)]) == 2  # is there already
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 4
    assert "is there already" in said[-1]
    assert not (tmp_path / "back").exists()


# -- tokenizers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pieces", "bytes"])
@settings(max_examples=150, deadline=None)
@given(text=st.one_of(st.text(max_size=40), st.text(alphabet="aeno \n\t=0▁<s>é日🙂", max_size=60)))
def test_hugging_faces_tokenizer_gives_our_ids_on_any_text(
    text: str, kind: str, tokenizer: SentencePieceTokenizer, hf_tokenizers: dict[str, Any]
) -> None:
    ours: Tokenizer = tokenizer if kind == "pieces" else ByteTokenizer()
    theirs = hf_tokenizers[kind]
    ids = theirs(text, add_special_tokens=False)["input_ids"]
    assert ids == ours.encode(text).tolist()
    assert theirs.decode(ids) == text


@pytest.fixture(scope="module")
def hf_tokenizers(tokenizer: SentencePieceTokenizer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    import transformers

    found = {}
    for kind, each in (("pieces", tokenizer), ("bytes", ByteTokenizer())):
        folder = tmp_path_factory.mktemp(kind)
        config = replace(LLAMA, vocab_size=each.vocab_size)
        assert exported(saved(folder / "run", awake(config), each), folder / "out")["tokenizer_agrees"]
        found[kind] = transformers.AutoTokenizer.from_pretrained(folder / "out")
        assert (found[kind].bos_token_id, found[kind].eos_token_id) == (each.bos_id, each.eos_id)
        assert (found[kind].pad_token_id, found[kind].unk_token_id) == (each.pad_id, each.unk_id)
    return found


def test_a_tokenizer_that_normalises_goes_as_its_own_file_alone(
    contest_tokenizer: SentencePieceTokenizer, tmp_path: Path
) -> None:
    config = replace(LLAMA, vocab_size=contest_tokenizer.vocab_size)
    answer = exported(saved(tmp_path / "run", awake(config), contest_tokenizer), tmp_path / "out")
    assert answer["tokenizer_agrees"] is None
    assert "tokenizer.json" not in answer["files"]
    assert (tmp_path / "out" / "tokenizer.model").read_bytes() == contest_tokenizer.model
    with pytest.raises(Exception, match="normalises"):
        tokenizer_json(contest_tokenizer)


@pytest.mark.slow
def test_rscalm138m_at_full_size_has_hugging_faces_logits(
    tokenizer: SentencePieceTokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load(RunConfig, CONFIGS / "rscalm138m.yaml").model
    model = awake(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == 137_841_408
    write_llama(Opened(tmp_path, model, tokenizer, 1024), tmp_path)  # nobody looks at the tokenizer, which is smaller
    theirs, _ = hugging_face(tmp_path)
    answer = compared(model, theirs, 128)
    with capsys.disabled():
        print(f"rscalm138m: {answer}")
    assert answer["max_logit_difference"] <= 1e-4
    assert answer["argmax_agreement"] == 1
    assert answer["positions"] >= 64
    written_there = load_file(tmp_path / "model.safetensors")
    back = {ours: written_there[theirs] for ours, theirs in llama_names(config).items()}
    assert same(back, model.state_dict())
