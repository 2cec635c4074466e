import tomllib
from pathlib import Path

from shared.config import KEYS, load_config

EXAMPLE = Path(__file__).parents[3] / "deploy/config/kottos.example.toml"


def test_the_example_has_every_key_with_its_default() -> None:
    tree = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))
    sections = {name for name in tree if isinstance(tree[name], dict) and name != "models"}
    names = tree.keys() - sections
    names |= {f"{section}.{name}" for section in sections for name in tree[section]}
    assert names == {key.removesuffix("_bytes") for key in KEYS}
    assert load_config(environ={}, file=EXAMPLE) == load_config(environ={})


def test_every_key_of_the_example_is_explained_or_follows_one_that_is() -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if "=" in line and "#" not in line] == ['password = ""']
