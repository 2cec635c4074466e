from collections.abc import Iterator

import pytest

from tests.integration.worker_harness import TinyModels


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyModels]:
    """Made and imported when first asked for."""
    yield TinyModels(tmp_path_factory.mktemp("tiny-models"))
