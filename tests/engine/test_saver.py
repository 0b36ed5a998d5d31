"""A run's checkpoints in one process: complete or not there, equal to what was saved, and nothing in them runs."""

from pathlib import Path

import pytest
import torch

from base.errors import BadInput
from data.dataset import open_dataset
from engine.nodes import Sharers
from engine.saver import Saver, find_checkpoints, load_checkpoint
from tests.runs import CPU, small
from tools.load_model import open_model
from training import Training


def saver_in(folder: Path) -> Saver:
    return Saver(folder, Sharers(), CPU)


@pytest.mark.parametrize("steps", [0, 3])
def test_what_is_restored_is_what_was_saved_and_not_what_training_made_of_it_since(work: Path, steps: int) -> None:
    saved, restored = (Training(small("average.start=0"), open_dataset("data"), CPU) for _ in range(2))
    saver = saver_in(work)
    for _ in range(steps):
        saved.step(0.5)
    before = {name: tensor.clone() for name, tensor in saved.tensors().items()}
    saved.save(saver)
    saved.step(0.5)
    torch.rand(3)
    saver.wait()
    assert restored.resume(saver_in(work))
    after = restored.tensors()
    assert after.keys() == before.keys()
    assert [name for name in before if not torch.equal(after[name], before[name])] == []
    assert ("state.embedding.table.weight.step" in before) == (steps > 0)
    opened = open_model(str(work / f"checkpoint-{steps}"), "model.golf", "data/tokenizer.model")
    assert torch.equal(opened.model.state_dict()["embedding.table.weight"], before["weights.embedding.table.weight"])


def test_a_save_that_was_cut_short_leaves_the_older_checkpoint_in_charge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver = saver_in(tmp_path)
    saver.save(1, {}, {"a": torch.ones(2)})
    saver.wait()

    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("engine.saver.write_json", fail)  # its data is there, its index is not
        saver.save(2, {}, {"a": torch.zeros(2)})
        with pytest.raises(BadInput, match="checkpoint-2: rank 0 cannot write it: no space left"):
            saver.wait()
    assert list((tmp_path / ".checkpoint-2").iterdir())
    (tmp_path / ".checkpoint-1").mkdir()
    again = saver_in(tmp_path)
    assert again.find_latest() == tmp_path / "checkpoint-1"
    again.save(2, {}, {"a": torch.zeros(2)})
    assert again.find_latest() == tmp_path / "checkpoint-2"
    assert list(find_checkpoints(tmp_path)) == [2]
    assert not list(tmp_path.glob(".*"))


def test_a_checkpoint_that_is_damaged_or_points_outside_is_refused(tmp_path: Path) -> None:
    saver = saver_in(tmp_path)
    saver.save(1, {}, {"a": torch.ones(2)})
    path = saver.find_latest()
    assert path is not None

    def choose(name: str, size: torch.Size, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(size, dtype=dtype)

    data, index = (path / "part-0" / name for name in ("__0_0.distcp", "index.json"))
    data.write_bytes(data.read_bytes()[:-50])
    with pytest.raises(BadInput, match="checkpoint-1: not a checkpoint that can be read"):
        load_checkpoint(path, {}, choose)
    index.write_text(index.read_text().replace("__0_0.distcp", "../../elsewhere"))
    with pytest.raises(BadInput, match=r"'\.\./\.\./elsewhere' is not a name inside part-0"):
        load_checkpoint(path, {}, choose)
    index.write_text("{")
    with pytest.raises(BadInput, match="not JSON that can be read"):
        load_checkpoint(path, {}, choose)
    index.unlink()
    with pytest.raises(BadInput, match=r"checkpoint-1: not a checkpoint that can be read: no \*/index.json is in it"):
        open_model(str(path), "model.golf")


def test_a_step_that_another_node_lacks_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saver = saver_in(tmp_path)
    (tmp_path / "checkpoint-20").mkdir()
    (tmp_path / "checkpoint-40" / "part-0").mkdir(parents=True)
    monkeypatch.setattr("engine.saver.gather", lambda ours, _: [ours, ("b", [20])])
    assert saver.find_latest() == tmp_path / "checkpoint-20"
    saver.save(40, {}, {"a": torch.ones(2)})
    saver.wait()
    assert list(find_checkpoints(tmp_path)) == [40]


def test_nodes_without_a_common_step_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "checkpoint-20").mkdir()
    (tmp_path / "checkpoint-40").mkdir()
    monkeypatch.setattr("engine.saver.gather", lambda ours, _: [ours, ("b", [])])
    with pytest.raises(BadInput, match=r"that all have: \[\('.*', \[20, 40\]\), \('b', \[\]\)\]; copy one to all"):
        saver_in(tmp_path).find_latest()
