import socket

import pytest

from cli.listen import choose_port
from shared.errors import ConfigError


def test_a_taken_port_is_refused_by_number() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"gateway\.port {port} .* taken .* --port"):
            choose_port("127.0.0.1", port)
        with pytest.raises(ConfigError, match="taken"):
            choose_port("0.0.0.0", port)
    assert choose_port("127.0.0.1", port) == port


def test_zero_finds_a_free_port() -> None:
    port = choose_port("127.0.0.1", 0)
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_an_address_that_is_not_ours_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"gateway\.host 192\.0\.2\.1"):
        choose_port("192.0.2.1", 0)
    with pytest.raises(ConfigError, match=r"gateway\.host host\.invalid"):
        choose_port("host.invalid", 0)
