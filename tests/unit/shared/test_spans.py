"""W3C Trace Context, and who is traced."""

import pytest

from shared.errors import ConfigError
from shared.spans import Parent, Sampler, SpanContext, parent_of, sampler_of, traced

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CONTEXT = SpanContext(TRACE, SPAN)


@pytest.mark.parametrize(
    ("text", "parent"),
    [
        (f"00-{TRACE}-{SPAN}-01", Parent(CONTEXT, is_sampled=True)),
        (f"00-{TRACE}-{SPAN}-00", Parent(CONTEXT, is_sampled=False)),
        (f"00-{TRACE}-{SPAN}-03", Parent(CONTEXT, is_sampled=True)),  # other flags are passed over
        (f"cc-{TRACE}-{SPAN}-01-what-comes-later", Parent(CONTEXT, is_sampled=True)),
        ("", None),
        (f"00-{TRACE}-{SPAN}-01-more", None),  # not in version 00
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE}-{SPAN}-1", None),
        (f"00-{TRACE}-{SPAN}", None),
        (f" 00-{TRACE}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}-01\n", None),
    ],
)
def test_a_header_is_read_as_the_standard_says(text: str, parent: Parent | None) -> None:
    assert parent_of(text) == parent


def test_what_is_written_is_read_again() -> None:
    child = CONTEXT.child()
    assert (child.trace_id, len(child.span_id)) == (TRACE, 16)
    assert child.span_id != SPAN
    assert traced(child.header()) == child


def test_a_message_of_an_untraced_request_names_no_span() -> None:
    assert traced("") is None
    assert traced(f"00-{TRACE}-{SPAN}-00") is None
    assert traced("nonsense") is None


@pytest.mark.parametrize("is_sampled", [True, False])
def test_who_comes_with_a_trace_is_traced_where_its_caller_is(is_sampled: bool) -> None:
    header = f"00-{TRACE}-{SPAN}-0{int(is_sampled)}"
    root = Sampler(ratio=1.0 - is_sampled).root(header)
    assert (root is not None) == is_sampled
    if root is not None:
        assert (root.context.trace_id, root.parent_span_id) == (TRACE, SPAN)


def test_without_asking_parents_the_ratio_decides_and_the_trace_goes_on() -> None:
    root = Sampler(1.0, asks_parent=False).root(f"00-{TRACE}-{SPAN}-00")
    assert root is not None
    assert (root.context.trace_id, root.parent_span_id) == (TRACE, SPAN)
    assert Sampler(0.0, asks_parent=False).root(f"00-{TRACE}-{SPAN}-01") is None


def test_a_trace_that_begins_here_has_no_parent() -> None:
    root = Sampler(1.0).root("nonsense")
    assert root is not None
    assert (root.parent_span_id, len(root.context.trace_id), len(root.context.span_id)) == ("", 32, 16)
    assert Sampler(0.0).root("") is None


def test_the_ratio_is_kept() -> None:
    """All samplers of a ratio agree on a trace id, as OpenTelemetry's do: the last 64 bits below ratio * 2^64."""
    low, high = "f" * 16 + "3fffffffffffffff", "0" * 16 + "4000000000000000"
    sampler = Sampler(0.25, asks_parent=False)
    assert sampler.root(f"00-{low}-{SPAN}-00") is not None
    assert sampler.root(f"00-{high}-{SPAN}-00") is None
    num_traced = sum(Sampler(0.25).root("") is not None for _ in range(4000))
    assert 800 < num_traced < 1200  # 1000 on average, 27 to either side


@pytest.mark.parametrize(
    ("environ", "sampler"),
    [
        ({}, Sampler(0.5)),
        ({"OTEL_TRACES_SAMPLER": ""}, Sampler(0.5)),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, Sampler(0.0, asks_parent=False)),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_on"}, Sampler(1.0)),
        ({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}, Sampler(0.1)),
        ({"OTEL_TRACES_SAMPLER": "traceidratio"}, Sampler(1.0, asks_parent=False)),
        ({"OTEL_TRACES_SAMPLER_ARG": "0.1"}, Sampler(0.5)),
    ],
)
def test_standard_variables_win(environ: dict[str, str], sampler: Sampler) -> None:
    assert sampler_of(0.5, environ) == sampler


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_TRACES_SAMPLER": "jaeger_remote"},
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "half"},
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1.5"},
    ],
)
def test_what_is_not_understood_is_refused_by_name(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=[*environ][-1]):
        sampler_of(0.5, environ)
