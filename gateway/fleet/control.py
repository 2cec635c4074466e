"""Changes of what is served, asked of the steward on behalf of an administrator."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from shared import subjects
from shared.bus import Bus
from shared.catalogue import described
from shared.config import ModelSource, check_model
from shared.errors import BusError, ConfigError, ErrorCode, ModelError, NoResponders, RequestError
from shared.ids import ModelName, WorkerId
from shared.messages import AddModel, Catalogue, ChangeModel, ChangeRefused, DrainWorker, Message, RemoveModel

_ANSWER_S: Final = 5.0
_RETRY_AFTER_S: Final = 1.0


class Control:
    """Every change raises RequestError where it is refused, or nobody can make it."""

    def __init__(self, bus: Bus, on_catalogue: Callable[[Catalogue], None]) -> None:
        """on_catalogue: this gateway knows what it has changed before it says so."""
        self._bus = bus
        self._on_catalogue = on_catalogue

    async def add(self, source: ModelSource) -> None:
        """Its path is of this machine, or a hub id."""
        try:
            check_model(ModelSource(source.name, "any"))
        except ConfigError as error:
            raise RequestError(ErrorCode.INVALID_REQUEST, str(error), param="id") from None
        try:
            check_model(source)
            [model] = await asyncio.to_thread(lambda: described([_as_seen_from_anywhere(source)]))
        except (ConfigError, ModelError) as error:
            raise RequestError(ErrorCode.INVALID_REQUEST, str(error), param="path") from None
        except (OSError, ValueError, RuntimeError):  # too long, no text, the home of nobody
            raise RequestError(ErrorCode.INVALID_REQUEST, "path can't be a path.", param="path") from None
        await self._ask(subjects.CONTROL_MODEL, AddModel(model))

    async def remove(self, name: ModelName) -> None:
        await self._ask(subjects.CONTROL_MODEL, RemoveModel(name))

    async def change(self, change: ChangeModel) -> None:
        await self._ask(subjects.CONTROL_MODEL, change)

    async def drain(self, worker: WorkerId, *, drained: bool) -> None:
        await self._ask(subjects.CONTROL_WORKER, DrainWorker(worker, drained))

    async def _ask(self, subject: str, message: Message) -> None:
        try:
            answer = await self._bus.request(subject, message, _ANSWER_S)
        except NoResponders:
            why = "Nothing can be changed: no stack that `kottos serve` started is on this bus."
            raise RequestError(ErrorCode.UNAVAILABLE, why, retry_after_s=_RETRY_AFTER_S) from None
        except BusError:
            why = "The change may not have been made: nobody has answered."
            raise RequestError(ErrorCode.UNAVAILABLE, why, retry_after_s=_RETRY_AFTER_S) from None
        match answer:
            case Catalogue():
                self._on_catalogue(answer)
            case ChangeRefused(reason):
                raise RequestError(ErrorCode.INVALID_REQUEST, f"It was refused: {reason}.")
            case _:
                raise RequestError(ErrorCode.INTERNAL, "The steward's answer was not understood.")


def _as_seen_from_anywhere(source: ModelSource) -> ModelSource:
    """A relative path is of this process, and others read it, too."""
    local = Path(source.path).expanduser()
    return ModelSource(source.name, str(local.absolute())) if local.exists() else source
