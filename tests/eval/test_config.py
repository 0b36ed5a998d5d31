"""The section eval.adapt: nested in files and overrides, strict, written to the run, read from an artifact."""

from pathlib import Path

import pytest

from base.config import load, to_dict, to_yaml
from base.errors import BadInput
from eval.config import PLAIN, AdaptConfig, LoRAConfig, read_adapt, read_precision
from run_config import RunConfig


def test_a_section_within_a_section_comes_from_files_and_overrides_and_goes_into_the_header(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("eval: {stride: 32, adapt: {kind: lora, table_bits: 20, lora: {lr: 0.01}}}\n")
    found = load(RunConfig, tmp_path / "a.yaml", ["eval.adapt.kind=mix", "eval.adapt.lora.rank=4"])
    assert found.eval.stride == 32
    assert found.eval.adapt == AdaptConfig(kind="mix", table_bits=20, lora=LoRAConfig(lr=0.01, rank=4))
    (tmp_path / "b.yaml").write_text(to_yaml(found))
    assert load(RunConfig, tmp_path / "b.yaml") == found
    assert read_adapt(to_dict(found)) == found.eval.adapt
    assert read_adapt(to_dict(found), kind="off", streams=None) == AdaptConfig(
        table_bits=20, lora=found.eval.adapt.lora
    )
    for older in ({}, {"eval": {"stride": 64}}, {"eval": None}):
        assert read_adapt(older) == PLAIN


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("eval.adapt.knd=mix", "unknown key eval.adapt.knd; nearest: eval.adapt.kind"),
        ("eval.adapt.lora.rnk=1", "unknown key eval.adapt.lora.rnk; nearest: eval.adapt.lora.rank"),
        ("eval.precision=fp16", "'fp16' is not one of auto, fp32, bf16"),
        ("eval.adapt.kind=mixed", "'mixed' is not one of off, mix, lora; nearest: mix"),
        ("eval.adapt=mix", "eval.adapt is a section of 'key: value' lines, not 'mix'"),
        ("eval.adapt.streams=0", "eval.adapt.streams: 0: input should be greater than or equal to 1"),
        ("eval.adapt.table_bits=31", "less than or equal to 30"),
        ("eval.adapt.lora.targets=[w]", "'w' is not one of q, k, v, out, up, down, head"),
    ],
)
def test_a_wrong_value_is_refused_with_the_way_out(word: str, message: str) -> None:
    with pytest.raises(BadInput) as refused:
        load(RunConfig, None, [word])
    assert message in str(refused.value)


def test_the_precision_of_a_score_is_that_of_the_header_or_of_a_flag() -> None:
    for older in ({}, {"eval": None}, {"eval": {"stride": 64}}, {"eval": {"precision": "auto"}}):
        assert (read_precision(older), read_precision(older, "bf16")) == ("fp32", "bf16")
    config = {"eval": {"precision": "bf16"}}
    assert (read_precision(config), read_precision(config, "fp32")) == ("bf16", "fp32")
    for wrong in ("fp8", 16, [], None):
        with pytest.raises(BadInput, match=r"eval\.precision .* is not one of auto, fp32, bf16"):
            read_precision({"eval": {"precision": wrong}})


def test_a_header_that_no_run_wrote_is_refused_by_name() -> None:
    for section in ([], "mix", {"kind": "magic"}, {"secret": 1}):
        with pytest.raises(BadInput, match=r"the artifact's eval\.adapt"):
            read_adapt({"eval": {"adapt": section}})
