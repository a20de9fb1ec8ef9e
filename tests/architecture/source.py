"""The product's source files, read and parsed once for every architecture test."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = (
    "domain",
    "contracts",
    "models",
    "infra",
    "activities",
    "workflows",
    "api",
    "sandbox",
    "cli",
    "migrations",
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One file: its path from the root, text and syntax tree."""

    path: str
    text: str
    tree: ast.Module

    @property
    def folder(self) -> str:
        return self.path.split("/")[0]

    def at(self, node: ast.AST) -> str:
        """`path:line`, for messages."""
        return f"{self.path}:{getattr(node, 'lineno', 1)}"


def parse(path: str, text: str) -> Source:
    return Source(path, text, ast.parse(text))


@cache
def sources() -> tuple[Source, ...]:
    """Every Python file of the product, tests left out."""
    files = [ROOT / "worker.py", *(file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py")))]
    return tuple(parse(file.relative_to(ROOT).as_posix(), file.read_text()) for file in files)


def of(*folders: str) -> list[Source]:
    """The files of those folders."""
    return [source for source in sources() if source.folder in folders]


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def texts(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Every string in the code but docstrings: constants, and the constant parts of f-strings."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node, node.value
