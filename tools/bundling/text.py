"""A program's text and where its parts stand in it: edits cut lines and move them, so that comments stay.

text = Text(source)         text.tree, and the bytes of every node: text.span(node)
text.edited([Edit(begin, end, b"…")])
"""

import ast
from typing import NamedTuple

LOOSE = ast.BoolOp | ast.IfExp | ast.Lambda | ast.NamedExpr  # what needs parentheses among other operators


class Edit(NamedTuple):
    begin: int
    end: int
    text: bytes


class Text:
    def __init__(self, source: str) -> None:
        self.source, self.tree = source, ast.parse(source)
        self.data = source.encode()
        self.lines = self.data.splitlines(keepends=True)
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line))

    def edited(self, edits: list[Edit]) -> str:
        data, end = self.data, len(self.data)
        for edit in sorted(edits, reverse=True):
            if edit.end <= end:  # one that holds another has its turn the next time
                data, end = data[: edit.begin] + edit.text + data[edit.end :], edit.begin
        assert data != self.data, f"an edit changes nothing: {edits[0]}"  # it would be asked for again for ever
        return data.decode()

    def operand(self, node: ast.expr) -> bytes:
        begin, end = self.span(node)
        text = self.data[begin:end]
        return b"(" + text + b")" if isinstance(node, LOOSE) or b"\n" in text else text

    def begin(self, node: ast.expr | ast.stmt | ast.arg) -> int:
        return self.starts[node.lineno - 1] + node.col_offset

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        return self.begin(node), self.starts[(node.end_lineno or 1) - 1] + (node.end_col_offset or 0)

    def as_pass(self, node: ast.stmt) -> Edit:
        return Edit(*self.line_span(node), b"pass\n".rjust(node.col_offset + 5))

    def line_span(self, node: ast.stmt) -> tuple[int, int]:
        return self.starts[first_line(node) - 1], self.after(node)

    def after(self, node: ast.stmt) -> int:
        return self.starts[node.end_lineno or node.lineno]

    def header(self, body: list[ast.stmt]) -> int:
        """The line (from 0) of the colon above a block; of an `elif`, its own first one."""
        at = first_line(body[0]) - 1
        if self.data[self.begin(body[0]) :].startswith(b"elif"):
            return at
        at -= 1
        while not (line := self.lines[at].strip()) or line.startswith(b"#"):
            at -= 1
        return at


def first_line(statement: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(decorator.lineno for decorator in decorators)])
