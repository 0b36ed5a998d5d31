"""Hub datasets: what files a repository holds at one pinned commit, and each file, downloaded and checked.

`hf:OWNER/NAME`, `hf:OWNER/NAME@REVISION`, and with a glob of paths (where `*` matches `/` too) `hf:OWNER/NAME:sub/*`.
Downloads go through huggingface_hub (resumed where they broke off, kept in its cache); HF_ENDPOINT is its own.
"""

import fnmatch
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from base.errors import BadInput
from base.files import file_sha256


@dataclass(frozen=True)
class HubFile:
    repo: str
    commit: str
    path: str
    size_bytes: int
    digest: str  # "sha256:…" for large files, "git:…" (blob id) for small ones


def parse_spec(spec: str) -> tuple[str, str | None, str]:
    """`hf:OWNER/NAME[@REVISION][:GLOB]` -> repository, revision, glob."""
    rest, _, pattern = spec.removeprefix("hf:").partition(":")
    repo, _, revision = rest.partition("@")
    if repo.count("/") != 1 or not all(repo.split("/")):
        raise BadInput(f"'{spec}': a hub source is hf:OWNER/NAME, with @REVISION and :GLOB if need be")
    return repo, revision or None, pattern or "*"


def pinned(spec: str, commit: str) -> str:
    """The spec with its revision spelled as the commit it stood for."""
    repo, _, pattern = parse_spec(spec)
    return f"hf:{repo}@{commit}" + (f":{pattern}" if pattern != "*" else "")


def list_files(spec: str) -> list[HubFile]:
    """Every file the spec names, sorted by path, pinned to the commit the revision stands for now."""
    repo, revision, pattern = parse_spec(spec)
    info = _ask(f"hf:{repo}", "dataset_info", repo, revision=revision, files_metadata=True)
    found = []
    for entry in info.siblings or ():
        if fnmatch.fnmatchcase(entry.rfilename, pattern):
            digest = f"sha256:{entry.lfs.sha256}" if entry.lfs else f"git:{entry.blob_id}"
            found.append(HubFile(repo, info.sha, entry.rfilename, entry.size, digest))
    return sorted(found, key=lambda file: file.path)


def fetch(file: HubFile, into: Path | None = None) -> Path:
    """The file on disk, checked against its listed size and hash: in the hub's cache, or as `into/file.path`."""
    path = _download(file, into, force=False)
    if not matches(path, file):  # the hub trusts what it once wrote; we do not
        path = _download(file, into, force=True)
        if not matches(path, file):
            raise BadInput(f"hf:{file.repo}/{file.path}: does not match its listed size and hash, twice")
    return path


def _download(file: HubFile, into: Path | None, force: bool) -> Path:
    where = f"hf:{file.repo}/{file.path}"
    arguments: dict[str, Any] = {"repo_type": "dataset", "revision": file.commit, "force_download": force}
    return Path(_ask(where, "hf_hub_download", file.repo, file.path, local_dir=into, **arguments))


def matches(path: Path, file: HubFile) -> bool:
    """Is this file the listed one, byte for byte?"""
    if path.stat().st_size != file.size_bytes:
        return False
    kind, _, digest = file.digest.partition(":")
    if kind == "sha256":
        return file_sha256(path) == digest
    blob = f"blob {file.size_bytes}\0".encode() + path.read_bytes()  # git's own hash of a small file
    return hashlib.sha1(blob).hexdigest() == digest


def _ask(where: str, method: str, *args: Any, **kwargs: Any) -> Any:
    """One call of the hub's API, its many failures turned into one line."""
    import httpx2  # with huggingface_hub a second to import, and most corpora are local
    from huggingface_hub import HfApi, errors

    away: Exception
    try:
        return getattr(HfApi(), method)(*args, **kwargs)
    except errors.LocalEntryNotFoundError as error:  # a kind of EntryNotFoundError, yet it means: no line
        away = error
    except (
        errors.RepositoryNotFoundError,
        errors.RevisionNotFoundError,
        errors.EntryNotFoundError,
        errors.HFValidationError,
    ) as error:
        raise BadInput(f"{where}: not there: {error}") from None
    except (httpx2.HTTPError, errors.OfflineModeIsEnabled, ConnectionError, TimeoutError) as error:
        away = error
    raise BadInput(f"{where}: the hub cannot be reached ({away}); what came is kept, run again to go on")
