"""The names and texts that a Python file assigns, read from its syntax and never run.

ChatRWKV's prompts are such files: `user = "Bob"`, and texts that may name what was assigned
before, as in f"{user}{interface} Hello". Anything that would have to be run is refused.
"""

from __future__ import annotations

import ast
import warnings


def read_assignments(source: str) -> dict[str, str]:
    """The texts that `source` gives names to; ValueError names a line that does more."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\N" in a prompt is no concern of its reader
            body = ast.parse(source).body
    except SyntaxError as error:
        raise ValueError(f"line {error.lineno}: {error.msg}") from error
    except MemoryError as error:
        raise ValueError("nested too deeply for a prompt file") from error
    values: dict[str, str] = {}
    for statement in body:
        match statement:
            case ast.Expr(value=ast.Constant()):  # a docstring
                continue
            case ast.Assign(value=ast.Constant(value=int() | float() | None)):  # True is an int
                continue
        name = _target(statement)
        values[name] = _value(statement.value, values)  # type: ignore[attr-defined]
    return values


def _target(statement: ast.stmt) -> str:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)]):
            return name
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr()):
            return name
    raise _refused(statement)


def _value(node: ast.expr, names: dict[str, str]) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _value(left, names) + _value(right, names)
        case ast.JoinedStr(values=parts):
            return "".join(_value(part, names) for part in parts)
        case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
            return _value(value, names)
    raise _refused(node)


def _refused(node: ast.stmt | ast.expr) -> ValueError:
    code = ast.unparse(node).splitlines()[0]
    shown = code if len(code) <= 40 else code[:40] + "…"
    return ValueError(
        f'line {node.lineno}: {shown!r} would have to be run, expected only user = "…" and the like'
    )
