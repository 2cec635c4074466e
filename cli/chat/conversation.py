"""What was said so far, and what of it goes along with the next question."""

from dataclasses import dataclass, field

import msgspec


class Message(msgspec.Struct, frozen=True):
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Exchange:
    question: str
    answer: str


@dataclass
class Conversation:
    system: str = ""  # empty: none
    exchanges: list[Exchange] = field(default_factory=list)

    def messages(self, question: str) -> list[Message]:
        said = [Message("system", self.system)] if self.system else []
        for exchange in self.exchanges:
            said += [Message("user", exchange.question), Message("assistant", exchange.answer)]
        return [*said, Message("user", question)]

    def add(self, question: str, answer: str) -> None:
        self.exchanges.append(Exchange(question, answer))

    def forget_oldest(self) -> bool:
        """Whether there was anything to forget."""
        if not self.exchanges:
            return False
        del self.exchanges[0]
        return True

    def clear(self) -> None:
        self.exchanges.clear()
