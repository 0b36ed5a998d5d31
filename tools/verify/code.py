"""Rules of code, by reading its syntax tree: what it imports, opens, starts, hides. Nothing is ever run.

    for finding in code_findings("train_gpt.py", source, requirements): ...

Reading cannot prove a program honest, and aliases fool it: what it sees is for people to judge (a flag), what it cannot
see into is unverified. The second tier runs the code with the network off.
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tools.verify.unpacking import MAKING, is_loader, unpacked
from tools.verify.verdict import Finding, Level

NETWORK = {
    "socket", "ssl", "urllib", "http", "ftplib", "smtplib", "telnetlib", "poplib", "imaplib", "xmlrpc", "socketserver",
    "requests", "httpx", "aiohttp", "urllib3", "websocket", "websockets", "paramiko", "boto3", "gdown", "wget",
}  # fmt: skip
DOWNLOADS = {"huggingface_hub", "httpx2", "datasets"}  # which prepare data where a config asks for it
STARTS = {"subprocess", "pty", "multiprocessing.managers", "ctypes", "cffi", "torch.utils.cpp_extension"}
CALLS = {  # what a call reaches, by how it is written
    "code.process": re.compile(
        r"os\.(system|popen|startfile|fork|forkpty|exec[lv]\w*|spawn[lv]\w*|posix_spawnp?)|asyncio\.create_subprocess_\w+"
        r"|torch\.utils\.cpp_extension\.\w+|(.+\.)?load_library|(.+\.)?load_inline"
    ),
    "code.network": re.compile(r"torch\.hub\.\w+|asyncio\.(open_connection|start_server)"),
}
BLOBS = {"base64", "pickle", "marshal", "dill", "cloudpickle", "shelve"}
WATCHED = {"os", "sys", "subprocess", "importlib", "asyncio", "torch", "numpy"}
UNPICKLING = {("weights_only", False), ("allow_pickle", True)}
TORCHRUN = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
DISTRIBUTIONS = {
    "yaml": "pyyaml",
    "annotated_types": "annotated-types",
    "cv2": "opencv-python",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
}
WITH_TORCH = {"triton", "numpy", "torch"}  # what an installed torch brings or cannot go without
MANY_NUMBERS = 64  # in one literal: the house's own code has none so long
LONG_TEXT = 2_000  # characters of one constant without blanks
ABSOLUTE = re.compile(r"^(/(?!dev/null$)|~|[A-Za-z]:\\|\.\.(/|$))")


@dataclass
class Seen(ast.NodeVisitor):
    """What a program names, with the line of the first time."""

    imports: dict[str, int] = field(default_factory=dict)  # at the top, unguarded
    guarded: dict[str, int] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)  # dotted, as written
    paths: dict[str, int] = field(default_factory=dict)
    environment: dict[str, int] = field(default_factory=dict)
    numbers: list[tuple[int, int]] = field(default_factory=list)  # line, how many
    texts: list[tuple[int, int]] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)  # of the modules that calls are looked for in
    python: list[bool] = field(default_factory=list)  # of each program started: whether it is this Python
    unpickles: dict[str, int] = field(default_factory=dict)  # calls that ask for it
    packs: list[ast.Constant] = field(default_factory=list)  # the constants that unpacked to programs, read as well
    loader: bool = False  # whether it does nothing but run what is packed in it
    installs: bool = False
    depth: int = 0

    @property
    def only_python(self) -> bool:
        """Whether all that it starts is the very Python that runs it, and not to install or to run a text."""
        return bool(self.python) and all(self.python) and not self.installs

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._imported(alias.name, node.lineno)
            if alias.name in WATCHED and alias.asname:
                self.aliases[alias.asname] = alias.name

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level == 0 and node.module:
            self._imported(node.module, node.lineno)
            for alias in node.names:
                if node.module.split(".")[0] in WATCHED:
                    self.aliases[alias.asname or alias.name] = f"{node.module}.{alias.name}"

    def _imported(self, name: str, line: int) -> None:
        (self.guarded if self.depth else self.imports).setdefault(name, line)

    def visit_Try(self, node: ast.Try) -> None:
        self._deeper(node)

    def visit_If(self, node: ast.If) -> None:
        self._deeper(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._deeper(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._deeper(node)

    def _deeper(self, node: ast.AST) -> None:
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1

    def visit_Call(self, node: ast.Call) -> None:
        name = self._named(node.func)
        if name.startswith("subprocess."):
            program = node.args[0] if node.args else None
            first = program.elts[0] if isinstance(program, ast.List) and program.elts else None
            self.python.append(first is not None and self._named(first) == "sys.executable")
        self.calls.setdefault(name, node.lineno)
        if name.endswith("load") and any((w.arg, _constant(w.value)) in UNPICKLING for w in node.keywords):
            self.unpickles.setdefault(name, node.lineno)
        if name.split(".")[-1] in {"open", "Path", "read_bytes", "read_text", "fromfile", "memmap", "load", "CDLL"}:
            for argument in node.args[:1]:
                if (
                    isinstance(argument, ast.Constant)
                    and isinstance(argument.value, str)
                    and ABSOLUTE.match(argument.value)
                ):
                    self.paths.setdefault(argument.value, node.lineno)
        if name in {"os.environ.get", "os.getenv"}:
            self._environment(node.args[0] if node.args else None, node.lineno)
        if name in {"importlib.import_module", "__import__"} and node.args:
            named = node.args[0]
            if isinstance(named, ast.Constant) and isinstance(named.value, str):
                self.guarded.setdefault(named.value, node.lineno)
        self.generic_visit(node)

    def _named(self, node: ast.expr) -> str:
        """As written, but for what a watched module is called here."""
        first, dot, rest = dotted(node).partition(".")
        return f"{self.aliases.get(first, first)}{dot}{rest}"

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if self._named(node.value) == "os.environ" and isinstance(node.ctx, ast.Load):
            self._environment(node.slice, node.lineno)
        self.generic_visit(node)

    def _environment(self, key: ast.expr | None, line: int) -> None:
        name = key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else "(computed)"
        self.environment.setdefault(name, line)

    def visit_List(self, node: ast.List) -> None:
        self._literal(node)

    def visit_Tuple(self, node: ast.Tuple) -> None:
        self._literal(node)

    def visit_Set(self, node: ast.Set) -> None:
        self._literal(node)

    def visit_Dict(self, node: ast.Dict) -> None:
        self._literal(node)

    def _literal(self, node: ast.expr) -> None:
        count = sum(isinstance(n, ast.Constant) and isinstance(n.value, int | float) for n in ast.walk(node))
        if count >= MANY_NUMBERS:
            self.numbers.append((node.lineno, count))  # and not the lists inside it again
        else:
            self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        self.installs = self.installs or node.value in ("pip", "-c", "ensurepip")
        if isinstance(node.value, str | bytes) and len(node.value) >= LONG_TEXT and node not in self.packs:
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            blanks = text.count(" ") + text.count("\n")
            if blanks * 40 < len(text):
                self.texts.append((node.lineno, len(text)))


def _constant(node: ast.expr) -> Any:
    return node.value if isinstance(node, ast.Constant) else None


def dotted(node: ast.expr) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    parts.append(node.id if isinstance(node, ast.Name) else "")
    return ".".join(reversed(parts))


def read_code(source: bytes) -> tuple[list[Seen], str]:
    """What the program and all that is packed inside it name; and why it cannot be read, or ""."""
    try:
        tree = ast.parse(source)
        found = []
        inside = unpacked(tree)
        for each in (tree, *(program.tree for program in inside)):
            loader = each is tree and bool(inside) and is_loader(tree, inside)
            seen = Seen(loader=loader, packs=[program.constant for program in inside])
            seen.visit(each)
            found.append(seen)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return [], f"{type(error).__name__}: {error!s:.100}"
    return found, ""


def code_findings(
    name: str, source: bytes, requirements: str | None, unreadable: Level = "unverified"
) -> Iterator[Finding]:
    """`unreadable`: how bad it is that this Python cannot parse it, which may only be too old for it."""
    found, trouble = read_code(source)
    if trouble:
        yield Finding(
            "code.syntax", unreadable, f"{name} is no Python that can be read here: {trouble}", {"file": name}
        )
        return
    if len(found) > 1:
        yield Finding("code.packed", "note", f"{name} is packed; the program inside was unpacked, not run, and read")
    for seen in found:
        yield from _reaches(name, seen)
        yield from _hides(name, seen)
    if requirements is not None:
        yield from _needs(name, found, requirements)


def _reaches(name: str, seen: Seen) -> Iterator[Finding]:
    modules = {**seen.imports, **seen.guarded}
    for rule, wanted, what in (
        ("code.network", NETWORK, "can reach the network"),
        ("code.process", STARTS, "can start other programs or load native code"),
        ("code.blob", BLOBS - {"base64"} if seen.loader else BLOBS, "can hold data or code that is not to be read"),
    ):
        for module, line in modules.items():
            if rule == "code.process" and module == "subprocess" and seen.only_python:
                message = f"{name}:{line} imports subprocess, and starts no other program than this Python"
                yield Finding("code.process", "note", message, {"file": name, "line": line})
            elif module in wanted or module.split(".")[0] in wanted:
                yield Finding(
                    rule, "flag", f"{name}:{line} imports {module}, which {what}", {"file": name, "line": line}
                )
    for module, line in modules.items():
        if module.split(".")[0] in DOWNLOADS:
            message = f"{name}:{line} imports {module}, which can download data where the config asks for it"
            yield Finding("code.download", "note", message, {"file": name, "line": line})
    for rule, pattern in CALLS.items():
        for call, line in seen.calls.items():
            if pattern.fullmatch(call):
                yield Finding(rule, "flag", f"{name}:{line} calls {call}", {"file": name, "line": line})
    for call, line in seen.unpickles.items():
        message = f"{name}:{line} calls {call} so that what it reads may run code"
        yield Finding("code.blob", "flag", message, {"file": name, "line": line})
    for path, line in seen.paths.items():
        yield Finding(
            "code.path",
            "flag",
            f"{name}:{line} opens {path!r:.80}, whatever the config says",
            {"file": name, "line": line},
        )
    for variable, line in seen.environment.items():
        if variable not in TORCHRUN:
            message = f"{name}:{line} reads the environment variable {variable:.60}, which the log does not hold"
            yield Finding("code.environment", "flag", message, {"file": name, "line": line})


def _hides(name: str, seen: Seen) -> Iterator[Finding]:
    """A mere loader has to run what it holds, which is read as well."""
    for call in () if seen.loader else sorted(MAKING & set(seen.calls)):
        line = seen.calls[call]
        message = f"{name}:{line} calls {call}(): what it makes cannot be read"
        yield Finding("code.dynamic", "unverified", message, {"file": name, "line": line})
    for line, count in seen.numbers:
        message = f"{name}:{line} has {count} numbers in one literal: constants made beforehand are for people to judge"
        yield Finding("code.constants", "flag", message, {"file": name, "line": line, "count": count})
    for line, length in seen.texts:
        message = f"{name}:{line} has a constant of {length:,} characters that is no text and does not unpack to Python"
        yield Finding("code.dynamic", "unverified", message, {"file": name, "line": line, "length": length})


def _needs(name: str, found: list[Seen], requirements: str) -> Iterator[Finding]:
    listed = {
        re.split(r"[\s=<>!~;\[#@]", line.strip(), maxsplit=1)[0].lower().replace("_", "-")
        for line in requirements.splitlines()
    }
    for seen in found:
        for module, line in seen.imports.items():
            root = module.split(".")[0]
            wanted = DISTRIBUTIONS.get(root, root).lower().replace("_", "-")
            if root in sys.stdlib_module_names or wanted in listed or (root in WITH_TORCH and "torch" in listed):
                continue
            message = f"{name}:{line} imports {root}, which requirements.txt does not list"
            yield Finding("code.requirements", "unverified", message, {"file": name, "line": line, "module": root})
