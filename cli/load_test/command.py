"""From the options of `kottos bench serve` to its summary."""

from pathlib import Path

from cli.exit_codes import Unreachable
from cli.gateway_client import GatewayClient, run_with_gateway
from cli.load_test.plan import Load
from cli.load_test.request import Api
from cli.load_test.run import run_load
from cli.load_test.summary import Summary, summary
from cli.output import progress
from shared.slo import Slo


def load_test(
    url: str | None,
    api_key_file: Path | None,
    load: Load,
    concurrency: int | None,
    api: Api,
    slo: Slo,
    *,
    ignore_eos: bool,
    quiet: bool,
) -> Summary:
    """Raises ConfigError, and Unreachable where no request got through."""

    async def run(client: GatewayClient) -> Summary:
        measured, duration_s = await run_load(client, load, concurrency, api, report, ignore_eos=ignore_eos)
        if not any(each.was_answered for each in measured):
            raise Unreachable(measured[0].error)
        return summary(client.url, measured, duration_s, slo)

    with progress("requests", quiet=quiet) as report:
        return run_with_gateway(url, api_key_file, run, keeps_connections=True)
