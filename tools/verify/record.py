"""A folder whose evidence could be read, and the claim that follows from it: what the rules of both tiers look at."""

from dataclasses import dataclass

from tools.record.claim import claim
from tools.record.evidence import Evidence, read_evidence
from tools.record.schema import Submission, Track, load_tracks
from tools.verify.folder import Folder


@dataclass(frozen=True)
class Record:
    folder: Folder
    evidence: Evidence
    claim: Submission
    track: Track


def open_record(folder: Folder) -> Record:
    evidence = read_evidence(folder)
    track = load_tracks().named(evidence.file.statement.track)
    return Record(folder, evidence, claim(evidence, track), track)
