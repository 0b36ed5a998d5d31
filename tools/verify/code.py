"""Read a program's syntax tree: what it imports, opens, starts and hides. Nothing is ever run.

    for finding in code_findings("train_gpt.py", source, requirements): ...    one file, and what is packed in it

Reading cannot prove a program honest, and renaming defeats it: what it sees is for people to judge (a flag), what it
cannot see into is unverified. The second tier runs the code with the network off.
"""

import ast
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
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
NETWORK = (
    r"imports (socket|ssl|urllib|http|ftplib|smtplib|telnetlib|poplib|imaplib|xmlrpc|socketserver|requests|httpx"
    r"|aiohttp|urllib3|websockets?|paramiko|boto3|gdown|wget)(\.|\Z)"
    r"|calls (torch\.hub\.|asyncio\.(open_connection|start_server)\Z)"
)
PROCESS = (
    r"imports (subprocess|pty|multiprocessing\.managers|ctypes|cffi|torch\.utils\.cpp_extension)(\.|\Z)"
    r"|calls (os\.(system|popen|startfile|fork|exec|spawn|posix_spawn)|asyncio\.create_subprocess)"
    r"|calls (torch\.utils\.cpp_extension\.|(.*\.)?load_(library|inline)\Z)"
)
BLOB = (
    r"imports (pickle|marshal|dill|cloudpickle|shelve|base64)(\.|\Z)"
    r"|calls \S*load with (weights_only=False|allow_pickle=True)"
)
FIXED_PATH = r"opens (/(?!dev/null\Z)|~|[A-Za-z]:\\|\.\.(/|\Z))"
VARIABLE = r"reads the variable (?!((LOCAL_)?(RANK|WORLD_SIZE)|MASTER_(ADDR|PORT))\Z)"  # torchrun's own are in order
MADE_CODE = r"calls (exec|eval|compile|__import__)\Z"
RULES: tuple[tuple[str, Level, str, str], ...] = (
    ("code.network", "flag", NETWORK, "which can reach the network"),
    ("code.process", "flag", PROCESS, "which can start other programs or load native code"),
    ("code.blob", "flag", BLOB, "which can hold code or data that cannot be read"),
    ("code.path", "flag", FIXED_PATH, "whatever the config says"),
    ("code.environment", "flag", VARIABLE, "which the log does not hold"),
    ("code.dynamic", "unverified", MADE_CODE, "and what that makes cannot be read"),
)
OF_A_LOADER = re.compile(rf"{MADE_CODE}|imports base64\Z")
OPENS = {"open", "Path", "read_bytes", "read_text", "fromfile", "memmap", "load", "CDLL"}
MANY_NUMBERS = 64  # in one literal; our own code has none so long
LONG_TEXT = 2_000  # characters of one constant
DISTRIBUTIONS = {"yaml": "pyyaml", "cv2": "opencv-python", "PIL": "pillow", "sklearn": "scikit-learn"}
WITH_TORCH = {"torch", "triton", "numpy"}  # what comes with torch


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
    texts: Mapping[str, str | bytes] = {name: source} if modules is None else modules
    for path, text in texts.items():
        try:
            tree = ast.parse(text)
            programs = unpacked(tree)
            is_stub = bool(programs) and is_loader(tree, programs)
        except NOT_PARSED as error:
            message = f"{path} is no Python that can be read here: {type(error).__name__}: {error!s:.100}"
            yield Finding("code.syntax", unreadable, message, {"file": path})
            continue
        if programs:
            yield Finding("code.packed", "note", f"{path} is packed; the program inside was unpacked and read, not run")
        packed = [program.constant for program in programs]
        for part in (tree, *(program.tree for program in programs)):
            once: dict[tuple[str, str], Finding] = {}
            seen = _judge(part, packed, is_stub and part is tree)
            for rule, level, line, what in (*seen, *_unlisted(part, requirements, own)):
                finding = Finding(rule, level, f"{path}:{line} {what}", {"file": path, "line": line})
                once.setdefault((rule, what), finding)
            yield from once.values()


def bundled_modules(source: bytes) -> dict[str, str] | None:
    """What a single file of tools.bundle holds, but for our own import hook; None: another program."""
    inside = unbundle(source)
    if inside is None:
        return None
    modules = dict(inside.modules)
    hook = (Path(__file__).parents[2] / HOOK).read_text(encoding="utf-8")
    with suppress(*NOT_PARSED):
        if strip_source(modules.get(HOOK, "")) == strip_source(hook):
            del modules[HOOK]  # it executes the other modules, which are read here
    return modules


def texts_inside(source: bytes) -> list[str]:
    """A file's text and the programs that are packed in it."""
    text = source.decode("utf-8", "replace")
    with suppress(BadInput, *NOT_PARSED):
        modules = bundled_modules(source)
        if modules is not None:
            return list(modules.values())
        return [text, *(program.text for program in unpacked(ast.parse(source)))]
    return [text]


# -- one syntax tree ------------------------------------------------------------------------------------------------

Seen = tuple[str, Level, int, str]  # rule, level, line, what


def _judge(tree: ast.Module, packed: Collection[ast.AST], is_stub: bool) -> Iterator[Seen]:
    """`packed`: constants that unpack to programs, which are read as well. `is_stub`: it does nothing but run those."""
    for line, act in _acts(tree):
        for rule, level, pattern, why in RULES:
            if re.match(pattern, act) and not (is_stub and OF_A_LOADER.match(act)):
                yield rule, level, line, f"{act:.120}, {why}"
    inside: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict) and node not in inside:
            parts = list(ast.walk(node))
            inside.update(parts)
            count = sum(isinstance(_constant(part), int | float) for part in parts)
            if count >= MANY_NUMBERS:
                what = f"has {count} numbers in one literal: constants made beforehand are for people to judge"
                yield "code.constants", "flag", node.lineno, what
        if isinstance(node, ast.Constant) and node not in packed and _is_blob(node.value):
            what = f"has a constant of {len(_constant(node)):,} characters, no text, that does not unpack to Python"
            yield "code.dynamic", "unverified", node.lineno, what


def _acts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line, and what is done there to anything outside, in the words that RULES match."""
    aliases = _aliases(tree)
    for node in ast.walk(tree):
        match node:
            case ast.Import() | ast.ImportFrom():
                yield from ((node.lineno, f"imports {module}") for module in _modules(node))
            case ast.Subscript(value=value, slice=key, ctx=ast.Load()) if _dotted(value, aliases) == "os.environ":
                yield node.lineno, f"reads the variable {_constant(key) or '(computed)'}"
            case ast.Call(func=func, args=args, keywords=keywords):
                name = _dotted(func, aliases)
                first = _constant(args[0]) if args else None
                yield node.lineno, f"calls {name}"
                for word in keywords:
                    yield node.lineno, f"calls {name} with {word.arg}={_constant(word.value)}"
                if name in ("os.environ.get", "os.getenv"):
                    yield node.lineno, f"reads the variable {first or '(computed)'}"
                if name in ("importlib.import_module", "__import__") and isinstance(first, str):
                    yield node.lineno, f"imports {first}"
                if name.split(".")[-1] in OPENS and isinstance(first, str):
                    yield node.lineno, f"opens {first}"


def _unlisted(tree: ast.Module, requirements: str | None, own: Collection[str]) -> Iterator[Seen]:
    """Imports at the top level; one inside a function, a try or an if may do without."""
    if requirements is None:
        return
    listed = {_distribution(re.split(r"[\s=<>!~;\[#@]", line.strip())[0]) for line in requirements.splitlines()}
    known = {*sys.stdlib_module_names, *own, *(WITH_TORCH if "torch" in listed else ())}
    for node in tree.body:
        for root in (module.split(".")[0] for module in _modules(node)):
            if root not in known and _distribution(DISTRIBUTIONS.get(root, root)) not in listed:
                what = f"imports {root}, which requirements.txt does not list"
                yield "code.requirements", "unverified", node.lineno, what


def _modules(node: ast.stmt) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=str(module), level=0):
            return [module]
    return []


def _aliases(tree: ast.Module) -> dict[str, str]:
    """A local name -> what it was imported as."""
    aliases: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            aliases |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            aliases |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    # An import of such a name somewhere may be a decoy for a call elsewhere.
    return {name: origin for name, origin in aliases.items() if not re.match(MADE_CODE, f"calls {name}")}


def _dotted(node: ast.expr, aliases: dict[str, str]) -> str:
    """A dotted name as it was imported."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    first = node.id if isinstance(node, ast.Name) else ""
    return ".".join([aliases.get(first, first), *reversed(parts)]).removeprefix("builtins.")


def _constant(node: ast.AST) -> Any:
    return node.value if isinstance(node, ast.Constant) else None


def _is_blob(value: object) -> bool:
    if not isinstance(value, str | bytes) or len(value) < LONG_TEXT:
        return False
    text = value if isinstance(value, str) else value.decode("latin-1")
    return 40 * (text.count(" ") + text.count("\n")) < len(text)


def _distribution(name: str) -> str:
    return name.lower().replace("_", "-")
