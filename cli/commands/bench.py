"""`kottos bench`: load on a server, and the benchmarks of the repository."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from cli.bench import BENCHMARKS, run_benchmark
from cli.commands.completion import model_names
from cli.commands.options import ApiKeyFile, AsJson, Url
from shared.slo import DEFAULT_TBT_S, DEFAULT_TTFT_S

if TYPE_CHECKING:
    from cli.load_test.plan import Range
    from cli.load_test.summary import Seen

_CONCURRENCY: Final = 8

bench = typer.Typer(help="Put load on a server, or run a benchmark of the repository.", no_args_is_help=True)


@bench.command()
def serve(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Asked in turns.", autocompletion=model_names)
    ],
    num_requests: Annotated[int, typer.Option("--requests", metavar="NUMBER", min=1, help="In all.")] = 100,
    rate: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER", min=0.001, help="Requests per second, at random. Default: as --concurrency lets."
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER", min=1, help=f"At once at most. Default: no limit with --rate, else {_CONCURRENCY}."
        ),
    ] = None,
    prompt_words: Annotated[str, typer.Option(metavar="RANGE", help="Words of a prompt, like 128 or 64-256.")] = "128",
    output_tokens: Annotated[str, typer.Option(metavar="RANGE", help="Tokens of an answer, likewise.")] = "64",
    api: Annotated[Literal["chat", "completions"], typer.Option(help="Which of the APIs.")] = "completions",
    ignore_eos: Annotated[
        bool, typer.Option(help="Go on to the last token; servers that don't know it may refuse it.")
    ] = True,
    ttft: Annotated[
        float, typer.Option(metavar="SECONDS", min=1e-6, help="In which first tokens are due.")
    ] = DEFAULT_TTFT_S,
    tbt: Annotated[
        float, typer.Option(metavar="SECONDS", min=1e-6, help="From one token to the next.")
    ] = DEFAULT_TBT_S,
    seed: Annotated[int, typer.Option(help="The same one: the same prompts at the same times.")] = 0,
    url: Url = None,
    api_key_file: ApiKeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Put load on any server with the API of OpenAI: what its clients see. With --rate, times count from when a request
    was due to be sent."""
    from cli.exit_codes import ExitCode
    from cli.load_test.command import load_test
    from cli.load_test.plan import Load
    from cli.output import print_json
    from shared.slo import Slo

    load = Load(
        models, num_requests, _range("prompt-words", prompt_words), _range("output-tokens", output_tokens), rate, seed
    )
    at_once = concurrency or (None if rate else _CONCURRENCY)
    seen = load_test(url, api_key_file, load, at_once, api, Slo(ttft, tbt), ignore_eos=ignore_eos, quiet=as_json)
    if as_json:
        print_json(seen)
    else:
        print(
            f"{seen.duration_s:.1f} s, {seen.requests_per_s:.2f} requests/s, "
            f"{seen.output_tokens_per_s:.1f} output tokens/s; times in seconds: median/90 %/99 %"
        )
        _print_seen([*seen.models, seen.all] if len(seen.models) > 1 else seen.models)
    if seen.all.num_failed == seen.all.num_requests:
        raise typer.Exit(ExitCode.FAILED)


def _print_seen(rows: "list[Seen]") -> None:
    from cli.output import print_table

    print_table(
        "model", "requests", "failed", "tokens in", "out", "TTFT", "TBT", "whole answer", "on time",
        rows=[
            (
                each.model or "all",
                str(each.num_requests),
                ", ".join(f"{num} x {error}" for error, num in each.errors.items()) or "0",
                str(each.num_prompt_tokens),
                str(each.num_output_tokens),
                *(
                    "" if found is None else f"{found.p50:.3f}/{found.p90:.3f}/{found.p99:.3f}"
                    for found in (each.ttft_s, each.tbt_s, each.e2e_s)
                ),
                f"{each.attainment:.1%}",
            )
            for each in rows
        ],
    )  # fmt: skip


def _range(option: str, text: str) -> "Range":
    from cli.load_test.plan import parse_range

    try:
        return parse_range(text)
    except ValueError:
        raise typer.BadParameter(
            "expected a number of at least 1, or a range like 64-256", param_hint=f"--{option}"
        ) from None


def _add(name: str, text: str) -> None:
    """What follows a benchmark's name goes to it, --help too."""

    def run(context: typer.Context) -> None:
        run_benchmark(name, context.args)

    settings = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    decorate: Callable[[Callable[..., None]], object] = bench.command(name, help=text, context_settings=settings)
    decorate(run)


for _name, _text in BENCHMARKS.items():
    _add(_name, _text)
