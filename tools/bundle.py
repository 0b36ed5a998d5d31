"""The one-file train_gpt.py of a submission: every module that a run reaches, under its own name, and the run's config.

    python -m tools.bundle configs/cpu10.yaml -o train_gpt.py                packed: stripped and compressed
    python -m tools.bundle configs/cpu10.yaml -o train_gpt.py --readable     plain: every module's text as it is
    python -I train_gpt.py                                                   the run again, alone
    python -I train_gpt.py seed=42 data.path=DIR                             with other values
    python -I train_gpt.py --score model.golf --data DIR --json              what an artifact is worth

The program is not changed: an import hook (base/hook.py) serves the modules. `unbundle` reads such a file and executes
nothing. More: docs/bundle.md.
"""

import argparse
import bz2
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from base.cli import Answer, OneLineParser, command, run, show_pairs
from base.config import load, to_yaml
from base.errors import BadInput
from base.files import atomic_file, require_folder_of
from base.packing import PACKED, pack, packed_file, read_sources, strip
from base.source import hashes_of, sources_sha256
from run_config import DEFAULT, RunConfig

LARGEST_BYTES = 1 << 24  # of the texts in a file that `unbundle` reads; ours have 300,000
META = ("name", "config.yaml", "sources_sha256")  # what the dict of files holds besides modules

HEAD = '''# coding: utf-8
"""A run in one file, made by `python -m tools.bundle --readable`: python -I train_gpt.py

Each section is a file of the repository as it is there; the entry, train_gpt.py, is the first of the modules. The last
two lines execute base/hook.py, which serves the modules to `import`, and run the entry.
"""
FILES = {}
'''
SECTION = """
# == {path} sha256 {sha256} ==
FILES["{path}"] = r'''
{text}'''[1:]
"""
SECTIONS = re.compile(r"""^FILES\["([^"\n]*)"\] = r'''\n(.*?)'''\[1:\]$""", re.M | re.S)
TAIL = """
exec(FILES["base/hook.py"])
serve(__file__, FILES, globals())
"""


@dataclass(frozen=True)
class BundledFile:
    """What a single file holds."""

    packed: bool
    name: str
    config_yaml: str
    sources_sha256: str  # as the file has it
    modules: dict[str, str]  # repository path -> text: all code that the file can execute; stripped if packed

    def hashes(self) -> dict[str, str]:
        """Of a readable file, its sources: repository path -> sha256."""
        return hashes_of(self.modules)


def bundle(config: RunConfig, name: str, readable: bool) -> bytes:
    """`name`: of the run's folder."""
    files = dict(zip(META, (name, to_yaml(config), sources_sha256()), strict=True))
    return render({**files, **read_sources()}) if readable else pack({**files, **strip(read_sources())})


def render(files: dict[str, str]) -> bytes:
    sections = []
    hashes = hashes_of(files)
    for path, text in files.items():
        if "'''" in text or text.endswith(("'", "\\")):
            raise BadInput(f"{path}: holds ''' or ends in ' or \\, which a readable file cannot quote")
        sections.append(SECTION.format(path=path, sha256=hashes[path], text=text))
    return (HEAD + "".join(sections) + TAIL).encode()


def unbundle(data: bytes) -> BundledFile | None:
    """By reading alone. None: not a file of ours, to the byte; so nothing can run that is not in `modules`."""
    packed = data.startswith(PACKED.partition("%s")[0].encode())
    files = _packed_files(data) if packed else _readable_files(data)
    if files is None or not files.keys() > {*META}:
        return None
    name, config, made_of = (files.pop(key) for key in META)
    return BundledFile(packed, name, config, made_of, files)


def _packed_files(data: bytes) -> dict[str, str] | None:
    before, _, after = PACKED.partition("%s")
    literal = data[len(before) : -len(after)].decode("latin-1")
    escapes = {"\\x00": "\0", "\\0": "\0", "\\r": "\r"}
    coded = re.sub(r"\\(x00|.)", lambda escape: escapes.get(escape[0], escape[1]), literal).encode("latin-1")
    if packed_file(coded) != data:
        return None
    unpacker = bz2.BZ2Decompressor()
    try:
        parts = unpacker.decompress(coded, LARGEST_BYTES).decode().split("\0")
    except (OSError, ValueError) as error:
        raise BadInput(f"a packed file that cannot be unpacked: {error}") from None
    if not unpacker.eof or unpacker.unused_data or len(parts) % 2:
        raise BadInput(f"a packed file that is incomplete, or has more than {LARGEST_BYTES:,} bytes of text")
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _readable_files(data: bytes) -> dict[str, str] | None:
    if not data.startswith(HEAD.encode()) or len(data) > LARGEST_BYTES or b"\r" in data or b"\0" in data:
        return None
    try:
        files = dict(SECTIONS.findall(data.decode()))
    except UnicodeDecodeError:
        return None
    return files if render(files) == data else None


def act(args: argparse.Namespace) -> Answer:
    require_folder_of(args.output)
    path, *words = args.words if args.words and "=" not in args.words[0] else [DEFAULT, *args.words]
    made = bundle(load(RunConfig, path, words), Path(path).stem, args.readable)
    output = Path(args.output)
    atomic_file(output, made)
    return {
        "path": str(output.resolve()),
        "bytes": len(made),
        "packed": not args.readable,
        "modules": len(read_sources()),
        "sources_sha256": sources_sha256(),
    }


def parser() -> OneLineParser:
    flags = command("tools.bundle", __doc__ or "")
    flags.add_argument("words", nargs="*", metavar="CONFIG.yaml section.key=value", help="default: as train_gpt.py")
    flags.add_argument("-o", "--output", metavar="FILE", required=True)
    flags.add_argument("--readable", action="store_true", help="plain text, comments kept (default: packed)")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show_pairs))
