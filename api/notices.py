"""Messages that a command has queued: have them sent once it has committed."""

from api.commands import Unit
from contracts.ids import workflow_id
from contracts.inbox import NotificationTask
from contracts.visibility import ENTITY


async def announce(unit: Unit, occasion: str, about: str) -> None:
    """Have the messages queued under the subject `occasion` sent; `about` is the id of the thing they are about."""
    await unit.start(
        "NoticesWorkflow",
        workflow_id("notices", unit.scope, occasion),
        NotificationTask(scope=unit.scope, subject_id=occasion),
        search_attributes={ENTITY.name: about},
        summary=f"notices about {about}",
    )
