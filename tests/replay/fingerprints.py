"""A fingerprint of what each workflow asks of Temporal, and in which order: read from its source, kept in a file.

A history shows one path; this shows all of them, so that a change of commands is noticed also where no golden history
leads. Everything else (docstrings, names of variables, logs, arguments, texts) may change freely.

    python -m tests.replay.fingerprints            # compare
    python -m tests.replay.fingerprints --write    # accept the present code
"""

import ast
import difflib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
KEPT = Path(__file__).with_name("fingerprints.json")
ADVICE = (
    "The commands of a workflow have changed. Runs in flight stop with a non-determinism error unless the change is "
    "guarded: patch it and record the new branch's history, then accept the new fingerprint with "
    "`python -m tests.replay.fingerprints --write`. See CONTRIBUTING.md, 'Changing a workflow safely'."
)
_COMMANDS = re.compile(
    r"(execute|start)_(local_)?(activity|child_workflow)(_method|_class)?$|^(sleep|sleep_until|wait_condition|patched|"
    r"deprecate_patch|continue_as_new|upsert_search_attributes|upsert_memo|set_current_details|signal|cancel|uuid4|random)$"
)
_TIMED = {"wait_condition"}
_NESTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def fingerprint(text: str) -> dict[str, list[str]]:
    """Function → its commands and the branches around them, one a line; functions without any are left out.

    A call of another function of the same file, or of a workflow helper, counts as a command where that function has
    one. Of the numbers and names a function uses, the values are added: a loop's bound is part of its commands.
    """
    tree = ast.parse(text)
    functions = dict(_functions(tree))
    helpers = _imported_helpers(tree)
    speaking = {name for name, node in functions.items() if any(True for _ in _calls(node, helpers, set()))}
    while True:
        names = {name.rpartition(".")[2] for name in speaking}
        more = {name for name, node in functions.items() if any(True for _ in _calls(node, helpers, names))}
        if more == speaking:
            break
        speaking = more
    constants = _constants(tree)
    found = {}
    for name, node in functions.items():
        lines = [*_handlers(node), *_lines(node.body, helpers, names, 0)]
        if lines:
            used = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)} & constants.keys()
            found[name] = [*(f"{word} = {constants[word]}" for word in sorted(used)), *lines]
    return found


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for child in node.body:
                if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield f"{node.name}.{child.name}", child


def _imported_helpers(tree: ast.Module) -> set[str]:
    """Functions imported from our own workflow modules: `tell`, `show`, `is_full`."""
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("workflows")
        for alias in node.names
        if alias.name.islower()
    }


def _constants(tree: ast.Module) -> dict[str, str]:
    """The module's named numbers and texts."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            found[ast.unparse(target)] = ast.unparse(node.value)
    return found


def _handlers(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """`@workflow.signal` and the like: their names are part of the protocol."""
    wanted = ("workflow.signal", "workflow.update", "workflow.query", "workflow.run")
    names = [ast.unparse(each) for each in node.decorator_list]
    return [f"@{name} {node.name}" for name in names if name.startswith(wanted)]


def _lines(body: list[ast.stmt], helpers: set[str], names: set[str], depth: int) -> Iterator[str]:
    """The statements that lead to a command, with the branches around them."""
    pad = "  " * depth
    for statement in body:
        blocks = list(_blocks(statement))
        if not blocks:
            calls = list(_calls(statement, helpers, names))
            if calls:
                yield from (pad + each for each in _choices(statement))
            yield from (pad + each for each in calls)
            if depth and isinstance(statement, ast.Break | ast.Continue | ast.Return | ast.Raise) and not calls:
                yield pad + type(statement).__name__.lower()
            continue
        inner = [(title, list(_lines(block, helpers, names, depth + 1))) for title, block in blocks]
        head = [pad + each for part in _heads(statement) for each in _calls(part, helpers, names)]
        if head or any(lines for _, lines in inner):
            yield from head
            for title, lines in inner:
                if lines:
                    yield f"{pad}{title}:"
                    yield from lines


def _choices(statement: ast.stmt) -> Iterator[str]:
    """What decides inside an expression whether its commands are given."""
    for node in ast.walk(statement):
        if isinstance(node, ast.IfExp):
            yield f"if {ast.unparse(node.test)} or else"
        elif isinstance(node, ast.BoolOp):
            yield f"when {ast.unparse(node)}"


def _heads(statement: ast.stmt) -> list[ast.AST]:
    """The expressions of a compound statement that run before its blocks."""
    found: list[ast.AST] = [
        value for name in ("test", "iter", "subject") if (value := getattr(statement, name, None)) is not None
    ]
    return found + [item.context_expr for item in getattr(statement, "items", [])]


def _blocks(statement: ast.stmt) -> Iterator[tuple[str, list[ast.stmt]]]:
    match statement:
        case ast.If() | ast.While():
            word = type(statement).__name__.lower()
            yield f"{word} {ast.unparse(statement.test)}", statement.body
            yield "else", statement.orelse
        case ast.For() | ast.AsyncFor():
            yield f"for {ast.unparse(statement.target)} in {ast.unparse(statement.iter)}", statement.body
            yield "else", statement.orelse
        case ast.With() | ast.AsyncWith():
            yield f"with {', '.join(ast.unparse(item.context_expr) for item in statement.items)}", statement.body
        case ast.Try():
            yield "try", statement.body
            for handler in statement.handlers:
                yield f"except {ast.unparse(handler.type) if handler.type else ''}".rstrip(), handler.body
            yield "else", statement.orelse
            yield "finally", statement.finalbody
        case ast.Match():
            for case in statement.cases:
                guard = f" if {ast.unparse(case.guard)}" if case.guard else ""
                yield f"case {ast.unparse(statement.subject)} {ast.unparse(case.pattern)}{guard}", case.body
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            yield f"def {statement.name}", statement.body


def _calls(node: ast.AST, helpers: set[str], names: set[str]) -> Iterator[str]:
    """The commands in an expression or statement, in the order of its text."""
    found = [each for each in ast.walk(node) if isinstance(each, ast.Call)]
    for call in sorted(found, key=lambda each: (each.end_lineno or 0, each.end_col_offset or 0)):
        function = ast.unparse(call.func)
        last = function.rpartition(".")[2]
        if function.startswith("workflow.") and _COMMANDS.search(last):
            yield f"{last}{_what(call, last)}"
        elif (function.startswith("self.") and function.count(".") == 1 and last in names) or function in helpers:
            yield f"call {last}"
        elif function in names and "." not in function:
            yield f"call {function}"


def _what(call: ast.Call, command: str) -> str:
    """What tells two commands of one kind apart: the activity or child, the patch, whether a wait has a timer."""
    if command in _TIMED:
        timer = " with a timer" if any(word.arg == "timeout" for word in call.keywords) else ""
        return f" {ast.unparse(call.args[0])}{timer}"
    if _COMMANDS.search(command) and call.args and ("activity" in command or "child" in command or "patch" in command):
        return f" {ast.unparse(call.args[0])}"
    return ""


def of_the_code() -> dict[str, dict[str, list[str]]]:
    """Module → function → commands, for every workflow module."""
    files = sorted((ROOT / "workflows").glob("*.py"))
    found = {f"workflows/{file.name}": fingerprint(file.read_text()) for file in files}
    return {name: functions for name, functions in found.items() if functions}


def kept() -> dict[str, dict[str, list[str]]]:
    """What was accepted last."""
    found: dict[str, dict[str, list[str]]] = json.loads(KEPT.read_text())
    return found


def changes(before: dict[str, dict[str, list[str]]], after: dict[str, dict[str, list[str]]]) -> list[str]:
    """The difference as a person reads it; empty when there is none."""
    return list(difflib.unified_diff(_text(before), _text(after), "accepted", "code", lineterm="", n=4))


def _text(prints: dict[str, dict[str, list[str]]]) -> list[str]:
    return [
        line
        for module, functions in sorted(prints.items())
        for name, lines in functions.items()
        for line in (f"{module} {name}", *(f"  {each}" for each in lines))
    ]


def main(arguments: list[str]) -> int:
    """0 when nothing has changed, or the change was accepted."""
    if arguments == ["--write"]:
        KEPT.write_text(json.dumps(of_the_code(), indent=1, ensure_ascii=False) + "\n")
        return 0
    difference = changes(kept(), of_the_code())
    print(*difference, *([ADVICE] if difference else []), sep="\n")
    return 1 if difference else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
