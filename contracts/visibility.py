"""The one registry of search attributes and task queues: code that writes them and the command that registers them
both read it here.

Search attributes are stored in clear and are eventually consistent: ids and enums only, and no decision reads them.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from temporalio.common import (
    SearchAttributeIndexedValueType,
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
)

TENANT: Final = SearchAttributeKey.for_keyword("ChamaTenant")
"""The tenant's id."""
MODE: Final = SearchAttributeKey.for_keyword("ChamaMode")
"""`test` or `live`."""
ENTITY: Final = SearchAttributeKey.for_keyword("ChamaEntity")
"""The business id, for example `inv_…`: what an operator pastes into the UI's search."""
STATUS: Final = SearchAttributeKey.for_keyword("ChamaStatus")
"""The entity's present state."""
BLOCKED: Final = SearchAttributeKey.for_keyword("ChamaBlocked")
"""Why it cannot go on by itself (a short code); empty when it can."""
NEXT_ACTION_AT: Final = SearchAttributeKey.for_datetime("ChamaNextActionAt")
"""When it next does something by itself."""
PROVIDER: Final = SearchAttributeKey.for_keyword("ChamaProvider")
"""The payment rail in use."""

ALL: Final[tuple[SearchAttributeKey[Any], ...]] = (TENANT, MODE, ENTITY, STATUS, BLOCKED, NEXT_ACTION_AT, PROVIDER)
_BY_NAME: Final = {key.name: key for key in ALL}
_TYPE_NAMES: Final = {
    SearchAttributeIndexedValueType.KEYWORD: "Keyword",
    SearchAttributeIndexedValueType.DATETIME: "Datetime",
}


class TaskQueue(StrEnum):
    """The queues that workers poll."""

    MAIN = "chama"


def registration() -> Iterable[tuple[str, str]]:
    """(name, type) of every attribute, with the server's type names: `ChamaTenant`, `Keyword`."""
    return [(key.name, _TYPE_NAMES[key.indexed_value_type]) for key in ALL]


def typed(values: Mapping[str, str | datetime]) -> TypedSearchAttributes:
    """Name → value as Temporal's typed attributes. Datetimes may be ISO 8601 text with an offset.

    Raises KeyError for a name outside the registry and ValueError for a naive or unreadable time.
    """
    return TypedSearchAttributes([_pair(_BY_NAME[name], value) for name, value in values.items()])


def _pair(key: SearchAttributeKey[Any], value: str | datetime) -> SearchAttributePair[Any]:
    if key.indexed_value_type is not SearchAttributeIndexedValueType.DATETIME:
        return SearchAttributePair(key, str(value))
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if moment.tzinfo is None:
        raise ValueError(f"{key.name} needs an aware datetime")
    return SearchAttributePair(key, moment)
