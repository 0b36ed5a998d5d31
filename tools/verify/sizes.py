"""Rules of bytes: what is on disk, what was claimed, what the log said, the track's cap. Size is of files on disk."""

from collections.abc import Iterator

from base.errors import BadInput
from quant.format import read_head
from tools.verify.agree import disagreement
from tools.verify.files import extras
from tools.verify.record import CODE, TOKENIZER, Record
from tools.verify.verdict import Finding


def sizes(record: Record) -> Iterator[Finding]:
    claim, on_disk = record.submission, record.folder.files
    if claim is None:
        return
    models = {result.artifact: on_disk.get(result.artifact) for result in claim.seed_results.values()}
    for seed, result in claim.seed_results.items():
        size, log = models[result.artifact], record.log_of(seed)
        if size is not None and result.bytes_model != size:
            yield disagreement(
                "size.model", f"seed {seed}: bytes_model", result.bytes_model, f"{result.artifact} has", size
            )
        if log and log.tail:
            if size is not None and log.tail.artifact_bytes != size:
                yield disagreement(
                    "size.log", f"{result.log}: artifact_bytes", log.tail.artifact_bytes, f"{result.artifact} has", size
                )
            said = log.tail.code_bytes + log.tail.artifact_bytes
            if log.tail.total_bytes != said:
                yield disagreement(
                    "size.log",
                    f"{result.log}: total_bytes",
                    log.tail.total_bytes,
                    "its code and artifact come to",
                    said,
                )
            if CODE in on_disk and log.tail.code_bytes != on_disk[CODE]:
                # A run from modules estimates its code, so the line is no lie; only what is shipped is counted.
                message = f"{result.log} counted {log.tail.code_bytes:,} bytes of code; {CODE} has {on_disk[CODE]:,}"
                yield Finding("size.code_log", "note", message)
    largest = max((size for size in models.values() if size is not None), default=None)
    for key, claimed, actual, source in (
        ("bytes_code", claim.bytes_code, on_disk.get(CODE), f"{CODE} has"),
        ("bytes_tokenizer", claim.bytes_tokenizer, on_disk.get(TOKENIZER), f"{TOKENIZER} has"),
        ("bytes_model", claim.bytes_model, largest, "the largest artifact has"),
        ("bytes_total", claim.bytes_total, claim.bytes_code + claim.bytes_model, "code and model come to"),
    ):  # fmt: skip
        if actual is not None and claimed != actual:
            yield disagreement(f"size.{key}", key, claimed, source, actual)


def cap(record: Record) -> Iterator[Finding]:
    """Code and the largest artifact under the cap; the strict total adds whatever else could be run or read."""
    claim, track, on_disk = record.submission, record.track, record.folder.files
    if claim is None or track is None:
        return
    if claim.cap_bytes != track.cap_bytes:
        yield disagreement("size.cap_claim", "cap_bytes", claim.cap_bytes, f"{track.name} has", track.cap_bytes)
    models = [(on_disk[r.artifact], r.artifact) for r in claim.seed_results.values() if r.artifact in on_disk]
    if CODE not in on_disk or not models:
        return
    size, name = max(models)
    extra = sum(on_disk[other] for other in extras(record))
    total, strict = on_disk[CODE] + size, on_disk[CODE] + size + extra
    if total > track.cap_bytes:
        yield Finding(
            "size.cap", "invalid", f"{CODE} and {name} come to {total:,} bytes; the cap is {track.cap_bytes:,}",
            {"code": on_disk[CODE], "artifact": size, "cap": track.cap_bytes},
        )  # fmt: skip
    elif strict > track.cap_bytes:
        yield Finding(
            "size.strict", "flag", f"with the other files it is {strict:,} bytes; the cap is {track.cap_bytes:,}",
            {"strict": strict, "counted": total, "cap": track.cap_bytes},
        )  # fmt: skip
    numbers = {"bytes_total": total, "bytes_strict": strict, "cap_bytes": track.cap_bytes}
    try:
        inside = read_head(record.folder.read(name)).stream_bytes.get("tokenizer", 0)
        numbers["bytes_contest"] = total - inside
    except BadInput:
        inside = 0  # artifact.format says so
    yield Finding(
        "size.measured", "note",
        f"{total:,} bytes of {track.cap_bytes:,}; strict {strict:,}; without the tokenizer {total - inside:,}",
        numbers,
    )  # fmt: skip
