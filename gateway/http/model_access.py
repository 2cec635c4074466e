"""The models of requests that run nothing on a worker: each counts as one of its API key's."""

from collections.abc import Callable

from aiohttp import web

from gateway.fleet.models import Model, Models
from gateway.http.auth import TENANT
from gateway.tenants.usage import Usages
from shared.errors import ErrorCode, RequestError
from shared.ids import ModelName


class ModelAccess:
    def __init__(self, models: Models, usages: Usages, clock: Callable[[], float]) -> None:
        self._models = models
        self._usages = usages
        self._clock = clock

    def model(self, name: str, request: web.Request) -> Model:
        """Raises RequestError."""
        tenant, now_s = request[TENANT], self._clock()
        if not tenant.may_use(name):
            why = f"This API key may not use the model {name!r}."
            raise RequestError(ErrorCode.PERMISSION_DENIED, why, param="model")
        self._usages.of(tenant, now_s).count_request(now_s)
        return self._models.get(ModelName(name))
