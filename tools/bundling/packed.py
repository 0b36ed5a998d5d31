"""Source -> the same program in few bytes: minified, LZMA, and a file that unpacks and runs itself.

    data = self_extracting(source)          source == unpacked(data), but for names and layout

The payload is raw LZMA in a string of the file, a byte a character: the file's encoding is declared Latin-1, in which
every byte but five is a legal character, so the payload grows by 2 % where base85 would add 25 %. The source is run
under the file's own name and put into linecache under it: tracebacks show its lines, inspect.getsource finds it, and
so does whatever compiles functions from their source.
"""

import ast
import lzma
import re

import python_minifier

from base.errors import BadInput

ESCAPED = {0: "\\0", 10: "\\n", 13: "\\r", 39: "\\'", 92: "\\\\"}
STUB = """#coding:L1
import lzma,linecache as l
s=lzma.decompress('%s'.encode('L1'),3,None,[%s]).decode()
l.cache[__file__]=len(s),None,s.splitlines(1),__file__
exec(compile(s,__file__,'exec'))
"""
MARK = re.compile(
    rb"\A#coding:L1\nimport lzma,linecache as l\ns=lzma\.decompress\((.*)\.encode\('L1'\),3,None,\[(.*)\]\)", re.S
)


def minified(source: str) -> str:
    """Names shortened, but for what is reached by attribute or keyword; a class keeps its fields and annotations."""
    tree = ast.parse(source)
    said = {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword)}
    if None in said and (found := _unpacking(tree)):
        raise BadInput(f"`{found:.60}` calls by names that only a run knows; write the arguments out")
    short: str = python_minifier.minify(
        ast.unparse(_Positional(said).visit(tree)),
        rename_globals=True,
        hoist_literals=False,
        remove_annotations=python_minifier.RemoveAnnotationsOptions(remove_class_attribute_annotations=False),
    )
    return short


class _Positional(ast.NodeTransformer):
    """Parameters that no call anywhere names are made positional: only then may they have other names."""

    def __init__(self, said: set[str | None]) -> None:
        self._said = said

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        if {ast.unparse(base) for base in node.bases} <= {"nn.Module"}:  # what others call, they may call by name
            self.generic_visit(node)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        named = [number for number, argument in enumerate(node.args.args) if argument.arg in self._said]
        first = min(named, default=len(node.args.args))
        node.args.posonlyargs, node.args.args = node.args.args[:first], node.args.args[first:]
        return node


def _unpacking(tree: ast.AST) -> str | None:
    """The first call of a function of ours with `**`."""
    ours = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and any(word.arg is None for word in node.keywords):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ours:
                return ast.unparse(node)
    return None


def self_extracting(source: str) -> bytes:
    plain = source.encode()
    tried = [
        _compressed(plain, lc, pb, nice) for lc in (2, 3, 4) for pb in (0, 1) for nice in (32, 48, 64, 96, 128, 273)
    ]
    coded, spelled = min(tried, key=lambda pair: len(pair[0]))
    text = "".join(ESCAPED.get(byte, chr(byte)) for byte in coded)
    text = re.sub(r"(?<!\\)((?:\\\\)*)\\0(?=[0-7])", r"\1\\x00", text)  # "\\0" before a digit is another character
    return (STUB % (text, spelled)).encode("latin-1")


def _compressed(plain: bytes, lc: int, pb: int, nice: int) -> tuple[bytes, str]:
    asked = {"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20, "lc": lc, "lp": 0, "pb": pb}
    tuning = {"mode": lzma.MODE_NORMAL, "mf": lzma.MF_BT4, "nice_len": nice, "depth": 1000}
    coded = lzma.compress(plain, lzma.FORMAT_RAW, filters=[{**asked, **tuning}])
    return coded, str(asked).replace(" ", "")


def unpacked(data: bytes) -> str | None:
    """The source that a packed file runs, without running it; None: it is not one."""
    match = MARK.match(data)
    if match is None:
        return None
    try:
        payload = ast.literal_eval(match[1].decode("latin-1")).encode("latin-1")
        filters = ast.literal_eval(match[2].decode("latin-1"))
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, None, [filters]).decompress(payload, 1 << 24).decode()
    except (ValueError, SyntaxError, TypeError, AttributeError, lzma.LZMAError, RecursionError) as error:
        raise BadInput(f"a packed file that cannot be unpacked: {error!s:.200}") from None
