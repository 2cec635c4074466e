"""Whom an address lets in, and whether that needs keys."""

import socket
from ipaddress import ip_address

from shared.api_keys import given_keys, key_file, read_keys
from shared.config import Config
from shared.errors import ConfigError


def check_exposure(config: Config) -> None:
    """Raises ConfigError where other machines could use the gateway and nobody needs a key."""
    host = config.gateway.host
    if not is_loopback(host) and not has_keys(config):
        raise ConfigError(
            f"gateway.host {host} lets other machines in, and there are no API keys: make one by "
            "`kottos keys create --name NAME`, or set keys.api, or leave gateway.host at 127.0.0.1"
        )


def has_keys(config: Config) -> bool:
    """Raises ConfigError."""
    return bool(given_keys(config) or read_keys(key_file(config)))


def needs_key(config: Config) -> bool:
    """Whether nobody gets in without one. Raises ConfigError."""
    is_kept = read_keys(key_file(config)) is not None
    return is_kept or bool(given_keys(config)) or not is_loopback(config.gateway.host)


def is_loopback(host: str) -> bool:
    """Whether every address of the host is this machine's own. Raises ConfigError."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError(f"gateway.host {host}: {error.strerror}") from error
    return all(ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)
