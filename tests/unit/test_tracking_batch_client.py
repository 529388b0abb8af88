"""A batch is repeated, what is decided left out, until everything is decided."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from tracking_client.batch_client import BatchClient
from tracking_client.errors import BatchRefused

Answer = Callable[[list[dict[str, Any]]], web.Response]
OPERATIONS = [b'{"update_id":"u-0"}', b'{"update_id":"u-1"}', b'{"update_id":"u-2"}']


class Server:
    """Answers each request with the next of `answers`, and remembers the ids that it was sent."""

    def __init__(self) -> None:
        self.answers: Iterator[Answer] = iter(())
        self.sent: list[list[str]] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        operations = await request.json()
        self.sent.append([operation["update_id"] for operation in operations])
        return next(self.answers)(operations)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A server of its own for each test, at `url`."""
    server = Server()
    app = web.Application()
    app.router.add_post("/v1/batch", server.handle)
    async with TestServer(app) as running:
        server.url = str(running.make_url("/"))
        yield server


def _outcomes(*outcomes: str) -> Answer:
    problem = {"type": "/problems/broker-unavailable", "status": 503, "title": "No broker"}

    def answer(operations: list[dict[str, Any]]) -> web.Response:
        results = [
            {"update_id": operation["update_id"], "outcome": outcome}
            | ({"problem": problem} if outcome == "rejected" else {})
            for operation, outcome in zip(operations, outcomes, strict=True)
        ]
        return web.json_response({"results": results})

    return answer


def _status(status: int, **headers: str) -> Answer:
    return lambda _: web.Response(status=status, text="no", headers=headers)


async def _decide(server: Server, *answers: Answer) -> list[tuple[str, str]]:
    server.answers = iter(answers)
    async with ClientSession() as session:
        results = await BatchClient(session, server.url, "token").decide(OPERATIONS)
    return [(result["update_id"], result["outcome"]) for result in results]


async def test_only_what_is_undecided_is_sent_again_with_the_same_ids(server: Server) -> None:
    results = await _decide(
        server, _outcomes("applied", "accepted", "rejected"), _outcomes("duplicate", "applied")
    )

    assert server.sent == [["u-0", "u-1", "u-2"], ["u-1", "u-2"]]
    assert results == [("u-0", "applied"), ("u-1", "duplicate"), ("u-2", "applied")]


async def test_an_outage_is_waited_out(server: Server) -> None:
    results = await _decide(
        server, _status(503, **{"Retry-After": "0"}), _status(429), _outcomes(*["applied"] * 3)
    )

    assert server.sent == [["u-0", "u-1", "u-2"]] * 3
    assert [outcome for _, outcome in results] == ["applied"] * 3


@pytest.mark.parametrize("status", [400, 401, 403, 413])
async def test_what_would_never_be_taken_is_told_at_once(server: Server, status: int) -> None:
    with pytest.raises(BatchRefused, match=f"answers {status}"):
        await _decide(server, _status(status))


async def test_a_refusal_is_told_in_the_words_of_its_problem_document(server: Server) -> None:
    problem = {"type": "/problems/unauthenticated", "title": "Not authenticated", "detail": "It has expired."}
    with pytest.raises(BatchRefused, match=r"answers 401: Not authenticated: It has expired\.$"):
        await _decide(server, lambda _: web.json_response(problem, status=401))


async def test_an_update_that_an_operator_gave_up_is_decided(server: Server) -> None:
    problem = {"type": "/problems/internal-error", "status": 500, "title": "Our fault"}
    results = [{"update_id": f"u-{n}", "outcome": "rejected", "problem": problem} for n in range(3)]
    decided = await _decide(server, lambda _: web.json_response({"results": results}))
    assert [outcome for _, outcome in decided] == ["rejected"] * 3


async def test_a_held_update_is_not_sent_again(server: Server) -> None:
    decided = await _decide(server, _outcomes("applied", "held", "accepted"), _outcomes("applied"))
    assert [outcome for _, outcome in decided] == ["applied", "held", "applied"]
    assert server.sent == [["u-0", "u-1", "u-2"], ["u-2"]]
