"""Read a run's result.json: for the programs that judge runs. The run itself only writes one (base/run_folder.py)."""

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from base.config import Layer, build
from base.errors import BadInput
from base.files import read_json_object
from base.run_folder import RunResult


def read_result(path: Path) -> RunResult:
    """A result.json, complete and with an artifact; keys that a later version added are ignored."""
    return result_from(read_json_object(path.read_text(encoding="utf-8", errors="replace"), str(path)), str(path))


def result_from(values: dict[str, Any], name: str) -> RunResult:
    known = {field.name: values[field.name] for field in fields(RunResult) if field.name in values}
    missing = [field.name for field in fields(RunResult) if field.name not in known and field.default is MISSING]
    if missing:
        raise BadInput(f"{name}: lacks {', '.join(missing)}; this train_gpt.py writes them: train it again")
    if known["artifact"] is None:
        raise BadInput(f"{name}: quant.method none left no artifact, so no val_bpb; train with a method that packs")
    return build(RunResult, [Layer(name, known)])
