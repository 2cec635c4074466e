"""The served models as the gateway needs them: card, folder, and a vocabulary for detokenization."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.fleet.cluster import Cluster, ModelState
from gateway.output.vocabulary import Vocabulary
from gateway.request.dialect import Dialect, dialect_of
from gateway.text.jobs import Spelled
from shared.catalogue import ModelCard, ModelEntry, read_card
from shared.errors import ErrorCode, ModelError, RequestError
from shared.ids import ModelName

_log = logging.getLogger(__name__)

POLL_S: Final = 0.5  # for the cards of models that are still being imported
RETRY_AFTER_S: Final = 5.0
_PLAIN: Final = Dialect()


@dataclass(frozen=True, slots=True)
class Model:
    name: ModelName
    folder: Path
    card: ModelCard
    vocabulary: Vocabulary
    dialect: Dialect = _PLAIN  # of its answers to chats


@dataclass(frozen=True, slots=True)
class ModelInfo:
    name: ModelName
    state: ModelState
    context_length: int | None  # None: not imported yet
    reason: str  # with state failed
    progress: float | None = None  # share done, while it is imported or read from disk


class Models:
    def __init__(
        self,
        catalogue: Mapping[ModelName, ModelEntry],
        cluster: Cluster,
        spell: Callable[[Path], Awaitable[Spelled]],
        warm: Callable[[Path], Awaitable[None]],
        on_gone: Callable[[ModelName], None] = lambda name: None,
    ) -> None:
        """spell, warm: called with a model's folder once it has been imported. on_gone: it is served no more."""
        self._catalogue = dict(catalogue)
        self._cluster = cluster
        self._spell = spell
        self._warm = warm
        self._on_gone = on_gone
        self._changed = asyncio.Event()
        self._loaded: dict[ModelName, Model] = {}
        self._damaged: set[ModelName] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Loads what is imported, then looks for the rest."""
        await self.load_new()
        async with asyncio.TaskGroup() as tasks:
            poll = tasks.create_task(self._poll())
            try:
                yield
            finally:
                poll.cancel()

    def follow(self, catalogue: Mapping[ModelName, ModelEntry]) -> None:
        """What is served from now on. Requests for what has gone are refused; those that run end by themselves."""
        for name, entry in self._catalogue.items():
            if name not in catalogue or catalogue[name].folder != entry.folder:
                self._loaded.pop(name, None)
                self._damaged.discard(name)
                self._on_gone(name)
        self._catalogue = dict(catalogue)
        self._changed.set()

    def ready(self) -> tuple[ModelName, ...]:
        """Those that this gateway takes requests for."""
        return tuple(self._loaded)

    def get(self, name: ModelName) -> Model:
        """Raises RequestError when the name is unknown or the model not imported yet."""
        if model := self._loaded.get(name):
            return model
        if name not in self._catalogue:
            raise unknown(name)
        state, failure = self._cluster.model_state(name), self._cluster.failure(name)
        because = f" {failure[:200]}" if failure else ""
        raise RequestError(
            ErrorCode.UNAVAILABLE,
            f"The model {name!r} can't serve yet, its state is: {state}.{because}",
            param="model",
            retry_after_s=RETRY_AFTER_S,
        )

    def info(self, name: ModelName) -> ModelInfo:
        """Raises RequestError when the name is unknown."""
        if name not in self._catalogue:
            raise unknown(name)
        model = self._loaded.get(name)
        context_length = self.context_length(model) if model else None
        state, failure = self._cluster.model_state(name), self._cluster.failure(name)
        return ModelInfo(name, state, context_length, failure, self._cluster.progress(name))

    def entry(self, name: ModelName) -> ModelEntry:
        """Raises RequestError when the name is unknown."""
        if name not in self._catalogue:
            raise unknown(name)
        return self._catalogue[name]

    def entries(self) -> Mapping[ModelName, ModelEntry]:
        """All that are served; not to be changed."""
        return self._catalogue

    def all_info(self) -> list[ModelInfo]:
        return [self.info(name) for name in self._catalogue]

    def context_length(self, model: Model) -> int:
        """The card's, or less where no worker has KV memory for it."""
        fitting = self._cluster.max_sequence_tokens(model.name)
        return min(model.card.context_length, fitting) if fitting else model.card.context_length

    async def _poll(self) -> None:
        warmed: set[Path] = set()
        while True:
            self._changed.clear()
            await self.load_new()
            for model in [model for model in self._loaded.values() if model.folder not in warmed]:
                await self._warm(model.folder)
            warmed = {model.folder for model in self._loaded.values()}
            is_complete = len(self._loaded) + len(self._damaged) == len(self._catalogue)
            with suppress(TimeoutError):
                async with asyncio.timeout(None if is_complete else POLL_S):
                    await self._changed.wait()

    async def load_new(self) -> None:
        """Takes in what has been imported since the last time."""
        for name, entry in list(self._catalogue.items()):
            if name in self._loaded or name in self._damaged:
                continue
            try:
                model = await self._load(name, entry)
            except ModelError as error:
                _log.error("model %s: %s", name, error)
                self._damaged.add(name)
                continue
            if model is not None and self._catalogue.get(name) == entry:
                self._loaded[name] = model
                _log.info("model %s: context of %d tokens", name, model.card.context_length)

    async def _load(self, name: ModelName, entry: ModelEntry) -> Model | None:
        """None until it is imported, or when there is no time for it now. Raises ModelError."""
        card = read_card(entry)
        if card is None:
            return None
        try:
            spelled = await self._spell(entry.folder)
            vocabulary = Vocabulary(spelled)
        except ValueError as error:
            raise ModelError(str(error)) from error
        except RequestError as error:
            if error.code is ErrorCode.INVALID_REQUEST:
                raise ModelError(error.message) from error
            _log.warning("model %s: %s", name, error.message)
            return None
        return Model(name, entry.folder, card, vocabulary, dialect_of(spelled.chat_template))


def unknown(name: str) -> RequestError:
    shown = name if len(name) <= 100 else name[:100] + "..."
    return RequestError(ErrorCode.MODEL_NOT_FOUND, f"The model {shown!r} does not exist.", param="model")
