"""Finds out before anything starts whether the gateway will be able to listen."""

import errno
import os
import socket

from shared.errors import ConfigError


def choose_port(host: str, port: int) -> int:
    """The port itself when it is free on every address of the host; a free one for 0. Raises ConfigError."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError(f"gateway.host {host}: {error.strerror}") from error
    for family, kind, protocol, _, address in addresses:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the gateway does: TIME_WAIT is no obstacle
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind((address[0], port, *address[2:]))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise ConfigError(
                        f"gateway.port {port} of {host} is taken by another program: choose another with --port"
                    ) from error
                raise ConfigError(
                    f"gateway.host {host}, gateway.port {port}: {os.strerror(error.errno or 0)}"
                ) from error
            port = probe.getsockname()[1]
    return port
