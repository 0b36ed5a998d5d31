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
FIGURE_BYTES = 1 << 18  # ours have half of it


def needed_files(folder: Folder) -> list[str]:
    """What has to be there: the files of every record, and those of each seed."""
    names = list(REQUIRED)
    for seed in recorded_seeds(folder):
        names += [name for kind, name in seed_files(seed).items() if kind != "artifact"]
    return names


def extra_files(folder: Folder) -> list[str]:
    """What no record has: they count as code in the strict total."""
    seeds_here = recorded_seeds(folder)
    artifacts = [seed_files(seed)["artifact"] for seed in seeds_here]
    own = [name for name in artifacts if name in folder]
    known = {*needed_files(folder), *WANTED, *(own if len(own) < len(seeds_here) else [])}
    return [name for name in folder.files if name not in known]


def check_files(folder: Folder) -> Iterator[Finding]:
    for name, why in folder.refused.items():
        yield Finding("files.plain", "invalid", f"{name!r:.120} is {why}; a record has plain files only")
    for name in needed_files(folder):
        if name not in folder and name not in folder.refused:
            yield Finding("files.required", "unverified", f"{name} is missing")
    for name in WANTED:
        if name not in folder:
            yield Finding("files.wanted", "flag", f"{name} is missing, which people would read")
    for name in FIGURES:
        if folder.files.get(name, 0) > FIGURE_BYTES:
            message = f"{name} has {folder.files[name]:,} bytes, more than a figure needs"
            yield Finding("files.figure", "flag", message)
    for name in extra_files(folder):
        message = f"{name} ({folder.files[name]:,} bytes) belongs to no record; it is counted as code"
        rule = "files.code" if name.endswith(CODE_ENDS) else "files.unexpected"
        yield Finding(rule, "flag", message, {"file": name, "bytes": folder.files[name]})


def check_manifest(folder: Folder) -> Iterator[Finding]:
    if MANIFEST not in folder:
        return
    try:
        listed = read_json_object(folder.text(MANIFEST), MANIFEST).get("files")
    except BadInput as bad:
        yield Finding("schema.manifest", "invalid", str(bad))
        return
    if not isinstance(listed, dict):
        yield Finding("schema.manifest", "invalid", f"{MANIFEST}: files is not an object")
        return
    for name, entry in listed.items():
        if not is_inside(name):
            yield Finding("files.outside", "invalid", f"{MANIFEST} names {name!r:.100}: not a file of the folder")
        elif name not in folder:
            yield Finding("hash.manifest", "invalid", f"{MANIFEST} lists {name}, which is not here")
        elif entry != (found := {"sha256": folder.sha256(name), "bytes": folder.files[name]}):
            evidence = {"file": name, "listed": entry, "found": found}
            yield Finding("hash.manifest", "invalid", f"{name} is not the file that {MANIFEST} lists", evidence)
    for name in folder.files:
        if name not in listed and name != MANIFEST:
            yield Finding("hash.unlisted", "flag", f"{name} is not listed in {MANIFEST}")
