"""Hub datasets: the files of a repository at one pinned commit, and each file, downloaded and checked.

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


def list_files(spec: str) -> tuple[list[HubFile], str]:
    """Every file that the spec names, sorted by path, and the spec pinned to the commit that its revision is now."""
    repo, revision, pattern = parse_spec(spec)
    info = _call_hub(f"hf:{repo}", "dataset_info", repo, revision=revision, files_metadata=True)
    found = []
    for entry in info.siblings or ():
        if fnmatch.fnmatchcase(entry.rfilename, pattern):
            digest = f"sha256:{entry.lfs.sha256}" if entry.lfs else f"git:{entry.blob_id}"
            found.append(HubFile(repo, info.sha, entry.rfilename, entry.size, digest))
    pinned = f"hf:{repo}@{info.sha}" + (f":{pattern}" if pattern != "*" else "")
    return sorted(found, key=lambda file: file.path), pinned


def fetch(file: HubFile) -> Path:
    """The file in the hub's cache, checked against its listed size and hash."""
    where = f"hf:{file.repo}/{file.path}"
    options: dict[str, Any] = {"repo_type": "dataset", "revision": file.commit}
    for force in (False, True):  # the library trusts a file that it once wrote; we do not
        path = Path(_call_hub(where, "hf_hub_download", file.repo, file.path, force_download=force, **options))
        if _digest(path, file.digest) == file.digest:
            return path
    raise BadInput(f"{where}: does not match its listed hash, twice")


def _digest(path: Path, like: str) -> str:
    if like.startswith("sha256:"):
        return f"sha256:{file_sha256(path)}"
    blob = b"blob %d\0" % path.stat().st_size + path.read_bytes()  # git's own hash of a small file
    return f"git:{hashlib.sha1(blob).hexdigest()}"


def _call_hub(where: str, method: str, *args: Any, **options: Any) -> Any:
    """One call of the hub's API; any of its many failures becomes one line."""
    from huggingface_hub import HfApi, errors  # a second to import, and most corpora are local

    missing = (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.RemoteEntryNotFoundError)
    unreachable = (errors.HTTPError, errors.LocalEntryNotFoundError, ConnectionError, TimeoutError)  # type: ignore[attr-defined]
    try:
        return getattr(HfApi(), method)(*args, **options)
    except (*missing, errors.HFValidationError) as error:
        raise BadInput(f"{where}: not there: {error}") from None
    except unreachable as error:
        raise BadInput(f"{where}: the hub cannot be reached ({error}); run again to resume the download") from None
