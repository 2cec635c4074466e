from pathlib import Path

import pytest
from msgspec.structs import replace

from shared.api_keys import ApiKey, added, change_keys, key_file
from shared.config import Config, GatewayConfig, KeysConfig
from shared.errors import ConfigError
from shared.exposure import check_exposure, has_keys, is_loopback, needs_key

KEY = ApiKey(id="key-1", name="a", sha256="0" * 64, created=1)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "fe80::1%1", "::ffff:192.0.2.1"])
def test_other_machines(host: str) -> None:
    assert not is_loopback(host)


def test_a_host_that_is_none() -> None:
    with pytest.raises(ConfigError, match=r"gateway\.host host\.invalid"):
        is_loopback("host.invalid")


def test_other_machines_need_keys(tmp_path: Path) -> None:
    here = Config(state_dir=tmp_path)
    everywhere = replace(here, gateway=GatewayConfig(host="0.0.0.0"))
    check_exposure(here)
    assert not needs_key(here)
    with pytest.raises(ConfigError, match=r"0\.0\.0\.0 .*kottos keys create"):
        check_exposure(everywhere)
    check_exposure(replace(everywhere, keys=KeysConfig(api=f"a={'x' * 20}")))
    change_keys(key_file(here), lambda keys: added(keys, KEY))
    check_exposure(everywhere)
    assert needs_key(here) and has_keys(here)


def test_a_file_without_keys_lets_nobody_in(tmp_path: Path) -> None:
    config = Config(state_dir=tmp_path)
    change_keys(key_file(config), lambda keys: ())
    assert needs_key(config) and not has_keys(config)
    with pytest.raises(ConfigError):
        check_exposure(replace(config, gateway=GatewayConfig(host="0.0.0.0")))
