"""Who asks: an API key from the request's headers, or, where no keys are needed, whoever is on this machine.

Everything needs a key but what OPEN names, and what is below /admin/ needs an admin's.
"""

from ipaddress import ip_address
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from yarl import URL

from gateway.tenants.keys import Keys
from gateway.tenants.tenant import LOCAL, Tenant
from shared.errors import ErrorCode, RequestError

TENANT: Final = web.RequestKey("tenant", Tenant)
_PAGES: Final = frozenset({"/", "/dashboard/{file}", "/docs"})
OPEN: Final = _PAGES | {"/health", "/ready", "/metrics", "/metrics/targets", "/version", "/openapi.json"}
ADMIN: Final = "/admin/"
_OWN_SITES: Final = (None, "none", "same-origin")  # of Sec-Fetch-Site: no browser, its user, our own page


def authentication(keys: Keys) -> Middleware:
    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        route = resource.canonical if resource else ""
        if route not in OPEN:
            request[TENANT] = tenant = _tenant(keys, request)
            if route.startswith(ADMIN):
                _check_admin(tenant, request)
        return await handler(request)

    return authenticate


def _tenant(keys: Keys, request: web.Request) -> Tenant:
    """Raises RequestError, which never repeats the key."""
    if not keys.are_needed:
        return LOCAL
    key = _key(request)
    if not key:
        raise _unauthenticated("No API key was given: send it as `Authorization: Bearer KEY` or as `x-api-key: KEY`.")
    tenant = keys.find(key)
    if tenant is None:
        raise _unauthenticated("The API key is not known here: it is misspelt, or it was revoked.")
    return tenant


def _key(request: web.Request) -> str:
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    return request.headers.get("x-api-key", "").strip()


def _check_admin(tenant: Tenant, request: web.Request) -> None:
    """Raises RequestError."""
    if not tenant.is_admin:
        raise RequestError(ErrorCode.PERMISSION_DENIED, "This needs the API key of an administrator.")
    headers = request.headers
    if tenant is LOCAL and not is_from_here(request.host, headers.get("Origin"), headers.get("Sec-Fetch-Site")):
        raise RequestError(
            ErrorCode.PERMISSION_DENIED, "Without API keys only programs on this machine may do this, not web pages."
        )


def is_from_here(host: str, origin: str | None, site: str | None) -> bool:
    """Whether no page but our own, in a browser on this machine, can have sent this.

    The arguments are headers of the request: Host, Origin, Sec-Fetch-Site. A browser sends a page's POST without a body
    anywhere, unasked (Fetch standard, "CORS protocol"), and names the page's origin, be it a port of this machine, in
    Origin. In Host it names what it looked up, which the page's owner may let mean this machine (DNS rebinding).
    """
    if not _is_local_name(_name(f"//{host}")) or site not in _OWN_SITES:
        return False
    return origin is None or origin.partition("://")[2] == host


def _name(url: str) -> str:
    try:
        return URL(url).host or ""
    except ValueError:
        return ""


def _is_local_name(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _unauthenticated(message: str) -> RequestError:
    return RequestError(ErrorCode.INVALID_API_KEY, message)
