"""One text process, as its parent sees it."""

import asyncio
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import gateway
from gateway.text.jobs import HEADER_BYTES, Job, Loaded, Reply, Result, pack, reply_decoder
from shared.child import dies_with_parent

_SOURCE_FOLDER: Final = str(Path(gateway.__file__).parents[1])


class ProcessEnded(Exception):
    """It ended by itself, or was killed."""


class TextProcess:
    """`async with` starts it and kills it at the end. One job at a time."""

    _process: asyncio.subprocess.Process

    async def __aenter__(self) -> Self:
        # Templates run there: it gets no bus credentials.
        environ = {name: value for name, value in os.environ.items() if not name.startswith("KOTTOS_")}
        paths = [_SOURCE_FOLDER, environ.get("PYTHONPATH", "")]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway.text.child",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # for shared.priority
            preexec_fn=dies_with_parent(),
            env=environ | {
                "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                "TOKENIZERS_PARALLELISM": "false",
                "HF_HUB_OFFLINE": "1",
                "TRANSFORMERS_VERBOSITY": "error",
            },
        )  # fmt: skip
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        await self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()

    async def perform(self, job: Job, load_timeout_s: float, timeout_s: float) -> Result:
        """Raises ProcessEnded; TimeoutError, after which the process can only be ended."""
        stdin = self._process.stdin
        assert stdin is not None  # piped above
        try:
            async with asyncio.timeout(load_timeout_s):
                stdin.write(pack(job))
                await stdin.drain()
                reply = await self._reply()
            if isinstance(reply, Loaded):
                async with asyncio.timeout(timeout_s):
                    reply = await self._reply()
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise ProcessEnded from error
        assert not isinstance(reply, Loaded)  # it is said once per job
        return reply

    async def _reply(self) -> Reply:
        stdout = self._process.stdout
        assert stdout is not None  # piped above
        num_bytes = int.from_bytes(await stdout.readexactly(HEADER_BYTES), "big")
        return reply_decoder.decode(await stdout.readexactly(num_bytes))
