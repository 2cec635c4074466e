import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from shared import subjects
from shared.ids import ClientId, ModelName, OwnerId, WorkerId

SUBJECT = re.compile(r"kottos(\.[A-Za-z0-9_=-]+)+")


def test_plain_names_stay_readable() -> None:
    assert subjects.request(ModelName("smollm2-135m")) == "kottos.request.smollm2-135m"


def test_syntax_is_escaped() -> None:
    assert subjects.encode_token("a.b*c>d e=f\r\n/") == "a=2Eb=2Ac=3Ed=20e=3Df=0D=0A=2F"
    assert subjects.encode_token("é") == "=C3=A9"
    assert subjects.encode_token("") == "="


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=50))
def test_any_text_is_one_token(text: str) -> None:
    for subject in (
        subjects.request(ModelName(text)),
        subjects.worker(WorkerId(text)),
        subjects.owner(OwnerId(text)),
        subjects.gateway(OwnerId(text)),
        subjects.client(ClientId(text)),
    ):
        assert SUBJECT.fullmatch(subject)
        assert subject.count(".") == 2


@given(*[st.text(st.characters(exclude_categories=["Cs"]), max_size=20)] * 2)
def test_different_texts_give_different_tokens(one: str, other: str) -> None:
    assert (subjects.encode_token(one) == subjects.encode_token(other)) == (one == other)


def test_every_user_may_receive_replies_and_nobody_elses() -> None:
    for user, permissions in subjects.PERMISSIONS.items():
        inboxes = [subject for subject in permissions.subscribe if subject.startswith("_INBOX")]
        assert inboxes == [f"{subjects.inbox_prefix(user)}.>"]


def test_no_user_may_do_everything() -> None:
    for permissions in subjects.PERMISSIONS.values():
        assert not {">", "kottos.>"} & {*permissions.publish, *permissions.subscribe}


def test_the_page_names_every_constant() -> None:
    page = Path(subjects.__file__).read_text()
    table = subjects.__doc__ or ""
    constants = re.findall(r'^[A-Z_]+: Final = "(kottos\.[a-z.]+)"', page, re.MULTILINE)
    assert len(constants) > 5
    for subject in constants:
        assert f"| {subject} " in table


def test_every_service_hears_of_log_levels_and_gateways_alone_say_them() -> None:
    hear = {user for user, allowed in subjects.PERMISSIONS.items() if subjects.CONTROL_LOG in allowed.subscribe}
    say = {user for user, allowed in subjects.PERMISSIONS.items() if subjects.CONTROL_LOG in allowed.publish}
    assert (hear, say) == ({"gateway", "router", "worker"}, {"gateway"})
