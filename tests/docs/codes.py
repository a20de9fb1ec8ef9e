"""Every error code the API can answer with, found in the source: (status, code)."""

import ast
from collections.abc import Iterator

from domain import errors
from tests.architecture.source import of

_FOLDERS = ("domain", "contracts", "models", "infra", "activities", "api")
_STATUS = {
    name: kind.status
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.DomainError)
}


def error_codes() -> set[tuple[int, str]]:
    """From the classes of domain/errors.py and all derived from them, and from what the API writes itself."""
    status = dict(_STATUS)
    classes = [node for source in of(*_FOLDERS) for node in ast.walk(source.tree) if isinstance(node, ast.ClassDef)]
    for _ in classes:  # a class may be derived from one that comes later
        for node in classes:
            for base in node.bases:
                if isinstance(base, ast.Name) and base.id in status:
                    status.setdefault(node.name, status[base.id])
    found = {pair for source in of(*_FOLDERS) for pair in _raised(source.tree)}
    found |= {pair for node in classes if node.name in status for pair in _own(node, status[node.name])}
    from api.errors import _CODES

    return found | set(_CODES.items())


def _raised(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """`Conflict("code", …)`, `_Refused(413, "code", …)` and `problem(id, 500, "code", …)`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        values = [each.value if isinstance(each, ast.Constant) else None for each in node.args]
        match node.func.id, values:
            case "_Refused", [int() as number, str() as code, *_]:
                yield number, code
            case "problem", [_, int() as number, str() as code, *_]:
                yield number, code
            case name, [str() as code, *_] if name in _STATUS and name != "NotFound":
                yield _STATUS[name], code


def _own(node: ast.ClassDef, status: int) -> Iterator[tuple[int, str]]:
    """The code a class of its own gives itself: `super().__init__("code", …)`, or `self.code, … = "code", …`."""
    for each in ast.walk(node):
        if isinstance(each, ast.Call) and ast.unparse(each.func) == "super().__init__":
            match each.args:
                case [ast.Constant(value=str() as code), _, *_]:
                    yield status, code
        if isinstance(each, ast.Assign) and "self.code" in ast.unparse(each.targets[0]):
            for value in ast.walk(each.value):
                if isinstance(value, ast.Constant):
                    yield status, str(value.value)
