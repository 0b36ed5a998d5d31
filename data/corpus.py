"""What a SOURCE means: its files, their fingerprint, and its documents as one stream.

    stdlib                       the interpreter's standard library (data/stdlib.py)
    FILE, FOLDER or 'GLOB'       .txt (with --txt line or --txt file) and .jsonl, also as .gz, .xz, .zst; .parquet
    hf:OWNER/NAME[@REV][:GLOB]   a hub dataset's files, downloaded (data/hub.py)
    PROTOCOL://PATH              a file, folder or glob of a remote store, read in place (data/remote.py)

A corpus can be read any number of times, always in the same order: files by name, documents as they come.
"""

import glob
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from base.errors import BadInput
from base.files import file_sha256
from data.hub import HubFile, fetch, list_files
from data.readers import Bad, Document, Kind, TxtUnit, format_of, read_documents
from data.remote import RemoteFile, list_remote
from data.stdlib import stdlib_files


@dataclass(frozen=True)
class Source:
    """One file of a corpus: what messages call it, where it is, and how it is read."""

    name: str
    path: Path | RemoteFile
    kind: Kind
    size_bytes: int  # when it was listed: files are put into parts by it

    def require_size(self) -> None:
        if isinstance(self.path, Path) and self.path.stat().st_size != self.size_bytes:
            raise BadInput(f"{self.name}: it changed while it was being read; run again when nothing writes to it")

    def identity(self) -> str:
        """What equals another file's only if the contents are equal: for a remote one, what its store states."""
        return self.path.identity if isinstance(self.path, RemoteFile) else f"sha256:{file_sha256(self.path)}"


@dataclass(frozen=True)
class Corpus:
    spec: str  # as the user named it, a hub revision pinned to its commit
    files: tuple[Source, ...]  # in reading order
    ignored_files: int = 0  # of other formats, in the folder or repository
    field: str = "text"

    def documents(self, on_bad: Callable[[Bad], None]) -> Iterator[Document]:
        """Every document that has text; one that cannot be read goes to `on_bad`, which may raise."""
        for file in self.files:
            for document in read_documents(file.path, file.name, file.kind, self.field):
                if isinstance(document, Bad):
                    on_bad(document)
                elif document.text:
                    yield document

    @cached_property
    def fingerprint(self) -> str:
        return self.fingerprint_of([file.identity() for file in self.files])

    def fingerprint_of(self, identities: Sequence[str]) -> str:
        """SHA-256 over the files' names, contents and ways of reading: equal fingerprints read as equal documents."""
        listing = hashlib.sha256()
        for file, identity in zip(self.files, identities, strict=True):
            listing.update(os.fsencode(f"{file.name}\0{file.kind}\0{identity}\n"))
        return hashlib.sha256(f"{self.field}\0{listing.hexdigest()}".encode()).hexdigest()


def open_corpus(spec: str, field: str = "text", txt: TxtUnit | None = None) -> Corpus:
    """Resolve a SOURCE to its files; those of the hub are downloaded."""
    if spec == "stdlib":
        return Corpus(spec, tuple(Source(name, path, "file", path.stat().st_size) for name, path in stdlib_files()))
    listed: dict[str, Path | HubFile | RemoteFile] = {}
    if "://" in spec:
        listed.update(list_remote(spec))
    elif spec.startswith("hf:"):
        found, spec = list_files(spec)
        listed.update((file.path, file) for file in found)
    else:
        listed.update(_local_files(spec))
    kinds: dict[str | None, Kind] = {".jsonl": "jsonl", ".parquet": "parquet"}
    if txt:
        kinds[".txt"] = txt
    elif any(format_of(name) == ".txt" for name in listed):
        raise BadInput(f"{spec}: define what a document is in .txt: --txt line or --txt file")
    named = {name: kinds[format_of(name)] for name in listed if format_of(name) in kinds}
    if not named:
        raise BadInput(f"{spec}: no .txt, .jsonl (also as .gz, .xz, .zst) or .parquet in {', '.join([*listed][:3])}")
    files = []
    for name, kind in named.items():
        where = listed[name]
        place = fetch(where) if isinstance(where, HubFile) else where
        if isinstance(place, Path):
            files.append(Source(name, place.absolute(), kind, place.stat().st_size))
        else:
            files.append(Source(name, place, kind, place.size_bytes))
    return Corpus(spec, tuple(files), len(listed) - len(files), field)


def _local_files(spec: str) -> list[tuple[str, Path]]:
    """(name, path) of every visible file, sorted by name."""
    path = Path(spec)
    if path.is_file():
        return [(path.name, path)]
    if spec and path.is_dir():
        found = list(_walk(path))
    else:
        path = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
        found = [Path(name) for name in glob.iglob(spec, recursive=True)]
    named = [(file.relative_to(path), file) for file in found if not file.is_dir()]
    visible = [(name, file) for name, file in named if not any(part.startswith(".") for part in name.parts)]
    if not visible:
        raise BadInput(
            f"'{spec}': no file is there; SOURCE is stdlib, a file, folder or 'glob', hf:OWNER/NAME or a URL"
        )
    return sorted((name.as_posix(), file) for name, file in visible)


def _walk(folder: Path) -> Iterator[Path]:
    """Every file below, through links to folders too; a folder that cannot be listed is an error."""

    def refuse(error: OSError) -> None:
        raise error

    seen: set[str] = set()
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(place, name) for name in names)
