"""Rules of the folder itself: what has to be there, what does not belong there, what the manifest's hashes show."""

from collections.abc import Iterator

from base.errors import BadInput
from base.files import is_inside, read_json_object
from base.run_folder import ARTIFACT
from data.manifest import TOKENIZER
from tools.record.evidence import recorded_seeds, seed_files
from tools.record.schema import CODE, EVIDENCE, FIGURES, MANIFEST, README, REQUIREMENTS, SUBMISSION
from tools.verify.code import CODE_ENDS
from tools.verify.folder import Folder
from tools.verify.verdict import Finding

REQUIRED = (SUBMISSION, MANIFEST, EVIDENCE, CODE, ARTIFACT, TOKENIZER, REQUIREMENTS)
WANTED = (README, *FIGURES)
PNG, PNG_END = b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xaeB`\x82"
FIGURE_BYTES, ASIDE_BYTES = 1 << 20, 1 << 12  # of a picture, and of chunks in it that are not the picture


def needed_files(folder: Folder) -> list[str]:
    """What has to be there: the files of every record, and those of each seed."""
    names = list(REQUIRED)
    for seed in recorded_seeds(folder):
        names += [name for kind, name in seed_files(seed).items() if kind != "artifact"]
    return names


def extra_files(folder: Folder) -> list[str]:
    seeds_here = recorded_seeds(folder)
    artifacts = [seed_files(seed)["artifact"] for seed in seeds_here]
    own = [name for name in artifacts if name in folder]
    known = {*needed_files(folder), *WANTED, *(own if len(own) < len(seeds_here) else [])}
    return [name for name in folder.files if name not in known]


def check_files(folder: Folder) -> Iterator[Finding]:
    for name, why in folder.refused.items():
        message = f"{name!r:.120} is {why}; a record has plain files only"
        yield Finding("files.plain", "invalid", message, {"file": name})
    for name in needed_files(folder):
        if name not in folder and name not in folder.refused:
            yield Finding("files.required", "unverified", f"{name} is missing", {"file": name})
    for name in WANTED:
        if name not in folder:
            yield Finding("files.wanted", "flag", f"{name} is missing, which people would read", {"file": name})
    for name in extra_files(folder):
        evidence = {"file": name, "bytes": folder.files[name]}
        if name.endswith(CODE_ENDS):
            message = f"{name} ({folder.files[name]:,} bytes) is code beside {CODE}, which has to hold all of it"
            yield Finding("files.code", "flag", message, evidence)
        else:
            message = f"{name} ({folder.files[name]:,} bytes) belongs to no record; it is counted as code"
            yield Finding("files.unexpected", "flag", message, evidence)
    for name in FIGURES:
        if name in folder and (trouble := _picture_trouble(folder, name)):
            yield Finding("files.figure", "flag", f"{name} {trouble}", {"file": name})


def _picture_trouble(folder: Folder, name: str) -> str:
    """Why a figure may hold more than a figure; "" if it does not."""
    if folder.files[name] > FIGURE_BYTES:
        return f"has {folder.files[name]:,} bytes, more than a figure needs"
    data = folder.read(name)
    if not (data.startswith(PNG) and data.endswith(PNG_END)):
        return "is not a PNG from its first byte to its last"
    at, aside = len(PNG), 0
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] not in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):
            aside += size
        at += 12 + size
    aside += abs(len(data) - at)  # a chunk may claim more than there is
    return f"holds {aside:,} bytes that are not its picture" if aside > ASIDE_BYTES else ""


def check_manifest(folder: Folder) -> Iterator[Finding]:
    if MANIFEST not in folder:
        return
    try:
        listed = read_json_object(folder.text(MANIFEST), MANIFEST).get("files")
        if not isinstance(listed, dict) or not all(isinstance(entry, dict) for entry in listed.values()):
            raise BadInput(f"{MANIFEST}: files is not an object of objects")
    except BadInput as bad:
        yield Finding("schema.manifest", "invalid", str(bad))
        return
    for name, entry in listed.items():
        if not is_inside(name):
            yield Finding("files.outside", "invalid", f"{MANIFEST} names {name!r:.100}: not a file of the folder")
        elif name not in folder:
            yield Finding("hash.manifest", "invalid", f"{MANIFEST} lists {name}, which is not here", {"file": name})
        elif entry != (found := {"sha256": folder.sha256(name), "bytes": folder.files[name]}):
            message = f"{name} is not the file that {MANIFEST} lists"
            yield Finding("hash.manifest", "invalid", message, {"file": name, "listed": entry, "found": found})
    for name in folder.files:
        if name not in listed and name != MANIFEST:
            yield Finding("hash.unlisted", "flag", f"{name} is not listed in {MANIFEST}", {"file": name})
