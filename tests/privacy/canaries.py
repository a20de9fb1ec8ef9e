"""Values that must turn up nowhere, and the places they are looked for in."""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

import httpx
from temporalio.client import Client, WorkflowHandle

from cli.stack.stack import Stack
from tests.fixtures.replay import runs_of
from tests.fixtures.stage import Stage

_SHORTEST = 8


def canaries_of(stack: Stack, more: Mapping[str, str]) -> dict[str, str]:
    """What it is → the value: the installation's own secrets, and `more`."""
    kept = stack.site.secrets
    names = ("owner_password", "role_password", "payload_key", "vault_key", "token_key", "operator_token")
    return {name: getattr(kept, name) for name in names} | dict(more)


def spellings(value: str) -> Iterator[bytes]:
    """The value as it may be written: plain, in a URL, and inside of a longer base64 text, whichever way it is cut."""
    assert len(value) >= _SHORTEST, value
    plain = value.encode()
    yield plain
    if quote(value, safe="") != value:
        yield quote(value, safe="").encode()
    for before in range(3):
        whole = b64encode(b"\x00" * before + plain + b"\x00" * (-(before + len(plain)) % 3))
        yield whole[4 if before else 0 : -4]


@dataclass
class Search:
    """Looks for canaries in one place after the other."""

    canaries: Mapping[str, str]
    hits: list[str] = field(default_factory=list)
    bytes_read: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._needles = [(name, each) for name, value in self.canaries.items() for each in spellings(value)]

    def within(self, place: str, content: bytes, *, without: Iterable[str] = ()) -> None:
        """Note every canary in `content`; `without` names those that belong there."""
        kind = place.partition(" ")[0]
        self.bytes_read[kind] = self.bytes_read.get(kind, 0) + len(content)
        for name, needle in self._needles:
            if needle in content and name not in without:
                at = content.index(needle)
                self.hits.append(f"{name} in {place}: …{content[max(0, at - 60) : at + 80]!r}…")


async def search_temporal(search: Search, stage: Stage) -> None:
    """What the server gives to anybody without the keys: histories, descriptions, visibility, and its files on disk."""
    settings = stage.stack.settings
    stranger = await Client.connect(settings.temporal_address, namespace=settings.temporal_namespace)
    for workflow_id, run_id in await runs_of(stranger, stage.seeded.scope, expected=stage.workflow_ids):
        handle: WorkflowHandle[object, object] = stranger.get_workflow_handle(workflow_id, run_id=run_id)
        async for event in handle.fetch_history_events():
            search.within(f"history of {workflow_id} event {event.event_id}", event.SerializeToString())
        described = await handle.describe()
        search.within(f"description of {workflow_id}", described.raw_description.SerializeToString())
    async for execution in stranger.list_workflows():
        search.within(f"visibility of {execution.id}", execution.raw_info.SerializeToString())
    for file in stage.stack.directory.glob("temporal.db*"):
        search.within(f"file {file.name}", file.read_bytes())


async def search_logs_and_metrics(search: Search, stage: Stage, *, without: Iterable[str]) -> None:
    """Every log of every part, and what Temporal's metrics endpoint shows."""
    for file in sorted((stage.stack.directory / "log").iterdir()):
        search.within(f"log {file.name}", file.read_bytes(), without=without)
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"{stage.stack.site.url('temporal_metrics')}/metrics")
        search.within("metrics", answer.raise_for_status().content)
