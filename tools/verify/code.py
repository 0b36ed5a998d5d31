"""Read a program's syntax tree: what it imports, opens, starts and hides. Nothing is ever run.

    for finding in code_findings("train_gpt.py", source, requirements): ...    one file, and what is packed in it

Reading cannot prove a program honest, and renaming defeats it: what it sees is for people to judge (a flag), what it
cannot see into is unverified. The second tier runs the code with the network off.
"""

import ast
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from base.errors import BadInput
from base.packing import HOOK, strip_source
from tools.bundle import unbundle
from tools.verify.unpacking import NOT_PARSED, is_loader, unpacked
from tools.verify.verdict import Finding, Level

CODE_ENDS = (
    ".py", ".pyc", ".pyx", ".ipynb", ".so", ".dll", ".dylib", ".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".rs", ".sh",
    ".js", ".wasm", ".pl", ".exe", ".a", ".o", ".zip", ".whl", ".tar", ".gz", ".xz", ".zst", ".7z",
)  # fmt: skip
NETWORK = {
    "socket", "ssl", "urllib", "http", "ftplib", "smtplib", "telnetlib", "poplib", "imaplib", "xmlrpc", "socketserver",
    "requests", "httpx", "aiohttp", "urllib3", "websocket", "websockets", "paramiko", "boto3", "gdown", "wget",
}  # fmt: skip
STARTS = {"subprocess", "pty", "multiprocessing.managers", "ctypes", "cffi", "torch.utils.cpp_extension"}
OPAQUE = {"pickle", "marshal", "dill", "cloudpickle", "shelve", "base64"}
IMPORTS: tuple[tuple[str, Level, set[str], str], ...] = (
    ("code.network", "flag", NETWORK, "can reach the network"),
    ("code.process", "flag", STARTS, "can start other programs or load native code"),
    ("code.blob", "flag", OPAQUE, "can hold code or data that cannot be read"),
    ("code.download", "note", {"huggingface_hub", "httpx2", "datasets"}, "can download where the config asks for it"),
)
STARTING = r"os\.(system|popen|startfile|fork|exec|spawn|posix_spawn)|asyncio\.create_subprocess"
LOADING = r"torch\.utils\.cpp_extension\.|(.*\.)?load_(library|inline)$"
CALLS = {
    "code.process": re.compile(f"{STARTING}|{LOADING}"),
    "code.network": re.compile(r"torch\.hub\.|asyncio\.(open_connection|start_server)$"),
}
MAKES_CODE = {"exec", "eval", "compile", "__import__"}
OPENS = {"open", "Path", "read_bytes", "read_text", "fromfile", "memmap", "load", "CDLL"}
UNPICKLES = {("weights_only", False), ("allow_pickle", True)}
ABSOLUTE = re.compile(r"/(?!dev/null$)|~|[A-Za-z]:\\|\.\.(/|$)")
TORCHRUN = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
MANY_NUMBERS = 64  # in one literal; our own code has none so long
LONG_TEXT = 2_000  # characters of one constant
DISTRIBUTIONS = {"yaml": "pyyaml", "cv2": "opencv-python", "PIL": "pillow", "sklearn": "scikit-learn"}
WITH_TORCH = {"torch", "triton", "numpy"}  # what comes with torch

Seen = tuple[str, Level, int, str]  # rule, level, line, what


def code_findings(
    name: str,
    source: bytes,
    requirements: str | None,  # None where no list is due
    unreadable: Level = "unverified",  # where this Python cannot parse it
) -> Iterator[Finding]:
    try:
        modules = bundled_modules(source)
    except BadInput as bad:
        yield Finding("code.syntax", unreadable, f"{name}: {bad}", {"file": name})
        return
    own = {re.split(r"[./]", path)[0] for path in modules or ()}  # they import each other without a requirement
    for path, text in (modules or {name: source}).items():
        yield from _file_findings(path, text, requirements, unreadable, own)


def bundled_modules(source: bytes) -> dict[str, str] | None:
    """What a single file of tools.bundle holds, but for our own import hook; None: another program."""
    inside = unbundle(source)
    if inside is None:
        return None
    modules = dict(inside.modules)
    if _is_own_hook(modules.get(HOOK, "")):  # it executes the other modules, which are read here
        del modules[HOOK]
    return modules


def texts_inside(source: bytes) -> list[str]:
    """A file's text and the programs that are packed in it."""
    try:
        modules = bundled_modules(source)
        if modules is not None:
            return list(modules.values())
        inside = [program.text for program in unpacked(ast.parse(source))]
    except (BadInput, *NOT_PARSED):
        inside = []
    return [source.decode("utf-8", "replace"), *inside]


def _is_own_hook(text: str) -> bool:
    """Whether it is this tree's, but for comments and layout."""
    ours = (Path(__file__).parents[2] / HOOK).read_text(encoding="utf-8")
    try:
        return ast.dump(ast.parse(strip_source(text))) == ast.dump(ast.parse(strip_source(ours)))
    except NOT_PARSED:
        return False


def _file_findings(
    name: str, source: bytes | str, requirements: str | None, unreadable: Level, own: Collection[str]
) -> Iterator[Finding]:
    try:
        tree = ast.parse(source)
        programs = unpacked(tree)
    except NOT_PARSED as error:
        message = f"{name} is no Python that can be read here: {type(error).__name__}: {error!s:.100}"
        yield Finding("code.syntax", unreadable, message, {"file": name})
        return
    if programs:
        yield Finding("code.packed", "note", f"{name} is packed; the program inside was unpacked, not run, and read")
    packed = [program.constant for program in programs]
    is_stub = bool(programs) and is_loader(tree, packed)
    for part in (tree, *(program.tree for program in programs)):
        reader = _Reader(part, packed, is_stub and part is tree)
        once: dict[tuple[str, str], Finding] = {}
        for rule, level, line, what in (*reader.reached(), *reader.hidden(), *reader.unlisted(requirements, own)):
            once.setdefault((rule, what), Finding(rule, level, f"{name}:{line} {what}", {"file": name, "line": line}))
        yield from once.values()


class _Reader:
    """`packed`: constants that unpack to programs, which are read as well. `is_stub`: it does nothing but run those."""

    def __init__(self, tree: ast.Module, packed: Collection[ast.AST], is_stub: bool) -> None:
        self.tree = tree
        self.packed = packed
        self.is_stub = is_stub
        self.nodes = list(ast.walk(tree))
        self.aliases: dict[str, str] = {}  # a local name -> what it was imported as
        for node in self.nodes:
            if isinstance(node, ast.Import):
                self.aliases |= {alias.asname: alias.name for alias in node.names if alias.asname}
            elif isinstance(node, ast.ImportFrom):
                self.aliases |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        for name in MAKES_CODE & set(self.aliases):  # an import somewhere may be a decoy for a call elsewhere
            del self.aliases[name]
        self.calls = [(self._named(node.func), node) for node in self.nodes if isinstance(node, ast.Call)]

    def reached(self) -> Iterator[Seen]:
        """Modules, programs, files and variables outside of it."""
        for module, line in self._modules(self.nodes):
            for rule, level, modules, what in IMPORTS:
                if modules & {module, module.split(".")[0]} and not (self.is_stub and module == "base64"):
                    yield rule, level, line, f"imports {module}, which {what}"
        for name, call in self.calls:
            for rule, pattern in CALLS.items():
                if pattern.match(name):
                    yield rule, "flag", call.lineno, f"calls {name}"
            first = _constant(call.args[0]) if call.args else None
            if name.split(".")[-1] in OPENS and isinstance(first, str) and ABSOLUTE.match(first):
                yield "code.path", "flag", call.lineno, f"opens {first!r:.80}, whatever the config says"
            if name in ("os.environ.get", "os.getenv"):
                yield from _variable(call.lineno, first)
        for node in self.nodes:
            match node:
                case ast.Subscript(value=value, slice=key, ctx=ast.Load()) if self._named(value) == "os.environ":
                    yield from _variable(node.lineno, _constant(key))

    def hidden(self) -> Iterator[Seen]:
        """What makes code, is made beforehand, or cannot be read."""
        for name, call in self.calls:
            if name in MAKES_CODE and not self.is_stub:
                yield "code.dynamic", "unverified", call.lineno, f"calls {name}(): what it makes cannot be read"
            if name.endswith("load") and any((word.arg, _constant(word.value)) in UNPICKLES for word in call.keywords):
                yield "code.blob", "flag", call.lineno, f"calls {name} so that what it reads may run code"
        inside: set[ast.AST] = set()
        for node in self.nodes:
            if isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict) and node not in inside:
                parts = list(ast.walk(node))
                inside.update(parts)
                count = sum(isinstance(_constant(part), int | float) for part in parts)
                if count >= MANY_NUMBERS:
                    what = f"has {count} numbers in one literal: constants made beforehand are for people to judge"
                    yield "code.constants", "flag", node.lineno, what
            if isinstance(node, ast.Constant) and node not in self.packed and _is_blob(node.value):
                what = f"has a constant of {len(node.value):,} characters that is no text and does not unpack to Python"
                yield "code.dynamic", "unverified", node.lineno, what

    def unlisted(self, requirements: str | None, own: Collection[str]) -> Iterator[Seen]:
        """Imports at the top level; one inside a function, a try or an if may do without."""
        if requirements is None:
            return
        listed = {_distribution(re.split(r"[\s=<>!~;\[#@]", line.strip())[0]) for line in requirements.splitlines()}
        known = {*sys.stdlib_module_names, *own, *(WITH_TORCH if "torch" in listed else ())}
        for module, line in self._modules(self.tree.body):
            root = module.split(".")[0]
            if root not in known and _distribution(DISTRIBUTIONS.get(root, root)) not in listed:
                yield "code.requirements", "unverified", line, f"imports {root}, which requirements.txt does not list"

    def _modules(self, nodes: Iterable[ast.AST]) -> Iterator[tuple[str, int]]:
        for node in nodes:
            match node:
                case ast.Import(names=names):
                    yield from ((alias.name, node.lineno) for alias in names)
                case ast.ImportFrom(module=str(module), level=0):
                    yield module, node.lineno
                case ast.Call(args=[ast.Constant(value=str(module)), *_]):
                    if self._named(node.func) in ("importlib.import_module", "__import__"):
                        yield module, node.lineno

    def _named(self, node: ast.expr) -> str:
        """A dotted name as it was imported."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        first = node.id if isinstance(node, ast.Name) else ""
        return ".".join([self.aliases.get(first, first), *reversed(parts)]).removeprefix("builtins.")


def _variable(line: int, key: Any) -> Iterator[Seen]:
    if key not in TORCHRUN:
        name = key if isinstance(key, str) else "(computed)"
        yield "code.environment", "flag", line, f"reads the variable {name:.60}, which the log does not hold"


def _constant(node: ast.AST) -> Any:
    return node.value if isinstance(node, ast.Constant) else None


def _is_blob(value: object) -> bool:
    if not isinstance(value, str | bytes) or len(value) < LONG_TEXT:
        return False
    text = value if isinstance(value, str) else value.decode("latin-1")
    return 40 * (text.count(" ") + text.count("\n")) < len(text)


def _distribution(name: str) -> str:
    return name.lower().replace("_", "-")
