"""base.config: strict loading, and errors that name the way out."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
from annotated_types import Ge
from hypothesis import given
from hypothesis import strategies as st

from base.config import load, parse_yaml, require_divisible, to_dict, to_yaml
from base.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class Model:
    dim: int = 512
    heads: int = 8
    mlp: Literal["relu2", "swiglu", "off"] = "relu2"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        require_divisible("dim", self.dim, "heads", self.heads)


@dataclass(frozen=True, kw_only=True)
class Part:
    size: int = 1


@dataclass(frozen=True, kw_only=True)
class Run:
    seed: Annotated[int, Ge(0)] = 1337
    bits: str = "mlp=5,attn=6"
    steps: int | None = None
    sizes: tuple[int, ...] = (1, 2)
    parts: tuple[Part, ...] = ()
    model: Model = field(default_factory=Model)
    teacher: Model | None = None


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_then_extends_then_file_then_override_each_win_over_the_one_before(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "seed: 1\nmodel: {dim: 256, heads: 4, dropout: 1e-1}\n")
    top = write(tmp_path / "top.yaml", "extends: base.yaml\nmodel:\n  dim: 128\n")
    run = load(Run, top, ["model.heads=2", "bits=mlp=4,attn=7"])
    assert run == Run(seed=1, bits="mlp=4,attn=7", model=Model(dim=128, heads=2, dropout=0.1))


def test_a_config_comes_back_equal_from_its_own_yaml(tmp_path: Path) -> None:
    run = load(Run, None, ["sizes=[3, 4]", "teacher.dim=64"])
    assert load(Run, write(tmp_path / "again.yaml", to_yaml(run))) == run
    assert to_dict(run)["sizes"] == [3, 4]


def test_a_bad_override_is_one_line_that_names_the_nearest_right_thing() -> None:
    for override, says in (
        ("model.dmi=3", "'model.dmi=3': unknown key model.dmi; nearest: model.dim"),
        ("modle.dim=3", "'modle.dim=3': unknown key modle; nearest: model"),
        ("teacher.dmi=3", "'teacher.dmi=3': unknown key teacher.dmi; nearest: teacher.dim"),
        ("model=3", "'model=3': model is a section of 'key: value' lines, not 3"),
        ("model.mlp=relu3", "'model.mlp=relu3': model.mlp: 'relu3' is not one of relu2, swiglu, off; nearest: relu2"),
        ("seed=-1", "'seed=-1': seed: -1: input should be greater than or equal to 0"),
        ('seed="1"', "'seed=\"1\"': seed: '1': input should be a valid integer"),
        ("seed=true", "'seed=true': seed: True: input should be a valid integer"),
        ("seed", "'seed': an override is section.key=value"),
        ("a." * 3000 + "b=1", "'a.a.a."),
        ("a\nb=1", "'a b=1': unknown key a b"),
        ("model.heads=20", "'model.heads=20': model: dim 512 is not divisible by heads 20; use 16 or 32"),
    ):
        with pytest.raises(BadInput) as caught:
            load(Run, None, [override])
        assert str(caught.value).startswith(says)
        assert "\n" not in str(caught.value)


def test_an_error_names_everyone_who_wrote_into_the_section(tmp_path: Path) -> None:
    base = write(tmp_path / "base.yaml", "seed: x\n")
    top = write(tmp_path / "top.yaml", "extends: base.yaml\nmodel: {dim: 100}\n")
    with pytest.raises(BadInput, match=str(base)):
        load(Run, top)
    base.write_text("seed: 1\n")
    with pytest.raises(BadInput, match=r"top\.yaml and 'model.mlp=off': model: dim 100 is not divisible by heads 8"):
        load(Run, top, ["model.mlp=off", "seed=3"])


def test_a_broken_file_is_refused_in_one_line(tmp_path: Path) -> None:
    for text, says in (
        ("seed: 1\nseed: 2\n", "given twice"),
        ("seed: [1\n", "not YAML"),
        ("- 1\n", "sections of 'key: value' lines"),
        ("extends: top.yaml\n", "extends itself"),
        ("extends: missing.yaml\n", "cannot be read"),
        ("1: 2\n", "is not a word"),
        ("seed: 1e999\n", "not YAML"),
        ("seed: &a [*a]\n", "not YAML"),
        ("seed: !!int ''\n", "not YAML"),
        ('seed: "\\UFFFFFFFF"\n', "not YAML"),
        ('extends: "a\\0b"\n', "cannot be read"),
        ("parts: [{size: 1, sise: 2}]\n", "unknown key parts.0.sise; nearest: parts.0.size"),
        ("parts: [{size: x}]\n", r"top\.yaml: parts\.0\.size: 'x'"),
    ):
        with pytest.raises(BadInput, match=says) as caught:
            load(Run, write(tmp_path / "top.yaml", text))
        assert "\n" not in str(caught.value)


def test_scalars_read_as_yaml_1_2_has_them() -> None:
    words = "[1e-3, off, no, true, ~, 0, 10, 010, 0x10, -5, 2., -.5, 1_000, .inf]"
    values = [1e-3, "off", "no", True, None, 0, 10, "010", "0x10", -5, 2.0, -0.5, "1_000", ".inf"]
    assert parse_yaml(f"key: {words}", "here") == {"key": values}


@given(st.text(max_size=40))
def test_no_override_text_escapes_as_anything_but_a_config_or_bad_input(text: str) -> None:
    try:
        assert isinstance(load(Run, None, [text]), Run)
    except BadInput as bad:
        assert str(bad)
