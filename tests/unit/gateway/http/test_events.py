from gateway.http.events import Event, framed


def test_events_have_their_name_before_their_data() -> None:
    assert framed([Event(b"{}", "ping"), Event(b"[DONE]")]) == b"event: ping\ndata: {}\n\ndata: [DONE]\n\n"
    assert framed([]) == b""
