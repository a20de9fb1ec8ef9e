"""The house rules that no linter knows. Each takes a source file and yields its breaches as `path:line: what`."""

import ast
import re
import sys
from collections.abc import Iterator

from tests.architecture.source import Source, functions, texts

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
_SQL = re.compile(
    r"^\s*(select\s.+\sfrom\s|select\s+(1|now|pg_|set_config)|insert\s+into\s|update\s+\S+\s+set\s|delete\s+from\s|with\s+\w+\s+as\s*\()",
    re.IGNORECASE | re.DOTALL,
)
_ACTIVITY_CALLS = re.compile(r"(execute|start)_(local_)?activity(_method|_class)?$")


def too_long(source: Source) -> Iterator[str]:
    lines = source.text.count("\n")
    if lines > FILE_LINES_MAX:
        yield f"{source.path}: {lines} lines, at most {FILE_LINES_MAX}"
    for function in functions(source.tree):
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        if length > FUNCTION_LINES_MAX:
            yield f"{source.at(function)}: {function.name} has {length} lines, at most {FUNCTION_LINES_MAX}"


def floats(source: Source) -> Iterator[str]:
    """`float` by name, or a number written with a decimal point. Seconds are no money, but belong elsewhere."""
    for node in ast.walk(source.tree):
        named = isinstance(node, ast.Name) and node.id == "float"
        if named or (isinstance(node, ast.Constant) and isinstance(node.value, float)):
            yield f"{source.at(node)}: a float"


def commits(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "commit":
            yield f"{source.at(node)}: only infra/database.py commits"


def sql(source: Source) -> Iterator[str]:
    for node, text in texts(source.tree):
        if _SQL.match(text):
            yield f"{source.at(node)}: SQL outside models/: {' '.join(text.split())[:60]!r}"


def unguarded_imports(source: Source) -> Iterator[str]:
    """Imports a workflow file makes outside its passthrough block: they are made again for every run."""
    guarded = {
        id(child)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.With) and "imports_passed_through" in ast.unparse(node.items[0].context_expr)
        for child in ast.walk(node)
    }
    for node in ast.walk(source.tree):
        if id(node) not in guarded:
            for module in imported(node):
                top = module.split(".")[0]
                if top != "temporalio" and top not in sys.stdlib_module_names:
                    yield f"{source.at(node)}: {module} outside the passthrough block"


def imported(node: ast.AST) -> list[str]:
    """The modules an import statement names; none for any other node."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def bare_activity_calls(source: Source) -> Iterator[str]:
    """Activity calls without a named preset of timeouts and retries, or without a line for the person who watches."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if _ACTIVITY_CALLS.search(node.func.attr):
            presets = [word for word in node.keywords if word.arg is None and isinstance(word.value, ast.Name)]
            if not any(ast.unparse(preset.value).isupper() for preset in presets):
                yield f"{source.at(node)}: an activity call without a **PRESET"
            if not any(word.arg == "summary" for word in node.keywords):
                yield f"{source.at(node)}: an activity call without summary="


def undocumented(source: Source) -> Iterator[str]:
    if source.text.strip() and ast.get_docstring(source.tree) is None:
        yield f"{source.path}: no module docstring"


def workflow_code_in_contracts(source: Source) -> Iterator[str]:
    """Contracts are plain messages: they may name Temporal's types, never its workflow runtime."""
    for node in ast.walk(source.tree):
        for module in imported(node):
            if module.startswith("temporalio.workflow"):
                yield f"{source.at(node)}: {module}"
