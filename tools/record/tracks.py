"""The tracks: what a record must keep to, read from records/tracks.yaml. Rules are data; this file only types them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt

from base.config import load
from base.errors import BadInput

TRACKS = Path(__file__).parents[2] / "records" / "tracks.yaml"


@dataclass(frozen=True, kw_only=True)
class Track:
    title: str
    hardware: str  # in words
    device: Literal["cuda", "cpu", "any"]
    devices: Annotated[int, Ge(0)]  # GPUs, or cores of a CPU; 0: any number
    cap_bytes: Annotated[int, Gt(0)]  # code and artifact
    train_seconds: Annotated[float, Ge(0.0)]  # 0: no limit
    calibration: Literal["inside", "apart"]  # whether quantizing and packing use up training's seconds
    eval_seconds: Annotated[float, Ge(0.0)]  # 0: no limit
    data: str  # a dataset's name, or any; scores on different data are listed apart
    ranked: bool
    seeds: Annotated[int, Gt(0)]  # the fewest that a ranked claim has
    margin_nats: Annotated[float, Ge(0.0)]  # the lead over the best row that a claim must prove, per token
    p: Annotated[float, Gt(0.0), Lt(1.0)]
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Tracks:
    version: int
    tracks: dict[str, Track]

    def named(self, name: str) -> Track:
        if name not in self.tracks:
            raise BadInput(f"no track is called {name}; there are {', '.join(self.tracks)}")
        return replace(self.tracks[name], name=name)


def load_tracks(path: Path = TRACKS) -> Tracks:
    tracks: Tracks = load(Tracks, path)
    return tracks
