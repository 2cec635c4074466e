"""States of a feed, as tests need them."""

from cli.top.feed import Kv, Memory, Model, Request, Slo, State, Step, Switch, Turn, Worker

MIB = 1 << 20


def model(name: str, *, tokens_per_s: float = 1.0, waiting: int = 0, attainment: float | None = None) -> Model:
    return Model(name, "resident", None, False, 0, waiting, 1, 0.25, attainment, tokens_per_s, Slo(10.0, 0.1))


def worker(name: str, models: dict[str, int] | None = None) -> Worker:
    memory = Memory(100 * MIB, models or {})
    return Worker(name, "life", False, "deadline", memory, Memory(None, {}), Kv(4 * MIB, 16 * MIB), 12.5, 0.5)


def request(name: str, *, age_s: float = 1.0, num_output_tokens: int = 2, model: str = "a") -> Request:
    return Request(name, model, "local", "decode", 10, num_output_tokens, age_s, "w", "")


def state(
    at_s: float = 100.0,
    *,
    models: list[Model] | None = None,
    workers: list[Worker] | None = None,
    requests: list[Request] | None = None,
    gateway: str = "gateway-1",
) -> State:
    requests = requests or []
    return State(at_s, gateway, models or [], workers or [], requests, len(requests), 1)


def turn(name: str, began_at_s: float, *steps: tuple[float, float], waited_s: float = 0.0) -> Turn:
    """steps: offset and duration of each."""
    switch = Switch("copied", waited_s, MIB) if waited_s else None
    return Turn(name, began_at_s, switch, [Step(offset_s, duration_s, 0, 1) for offset_s, duration_s in steps])
