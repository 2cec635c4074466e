from cli.chat.conversation import Conversation, Message


def test_what_was_said_goes_along_and_the_oldest_is_forgotten_first() -> None:
    conversation = Conversation("be short")
    conversation.add("one?", "1")
    conversation.add("two?", "2")
    assert conversation.messages("three?") == [
        Message("system", "be short"),
        Message("user", "one?"),
        Message("assistant", "1"),
        Message("user", "two?"),
        Message("assistant", "2"),
        Message("user", "three?"),
    ]
    assert conversation.forget_oldest() and len(conversation.exchanges) == 1
    assert conversation.messages("three?")[1] == Message("user", "two?")
    assert conversation.forget_oldest() and not conversation.forget_oldest()
    assert conversation.messages("three?") == [Message("system", "be short"), Message("user", "three?")]


def test_without_a_system_message_there_is_none() -> None:
    assert Conversation().messages("hi") == [Message("user", "hi")]
