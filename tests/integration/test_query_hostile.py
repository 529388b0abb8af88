"""Hostile values in every parameter of every route: a refusal, and never a fault, a hang or foreign data."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from list_oracle import SORTS, WORLD
from query_stack import START, QueryClient, running_query, store, token
from query_surface import Route, raw_get, routes_of

from answers import Answer
from property_examples import max_examples
from raw_http import exchange
from tracking_shared.contracts.problems import CATALOGUE
from tracking_shared.contracts.timestamps import format_time

ADMIN = token(scope="orders:admin")
"""Whoever may ask everything that there is."""

MAX_AT_ONCE = 2
"""As many reports as one caller may have at once: nothing may be put off instead of being looked at."""

NO_REQUEST = b"Invalid HTTP request received."
"""What the server says below the application: bytes that are no request at all, or more than 64 KiB of it."""

ENCODED = [
    b"",
    b"%00",
    b"o-1%00",
    b"%",
    b"%zz",
    b"%FF%FE",
    b"%C0%AF",
    b"%ED%A0%80",  # a lone surrogate
    b"%F0%9F%92%A9",
    b"%E2%80%AE",  # from right to left
    b"%0D%0ASet-Cookie:%20a=b",
    b"..%2F..%2F..%2Fetc%2Fpasswd",
    b"%2Fetc%2Fpasswd",
    b"o-1%2F..%2Fo-2",
    b"a" * 8000,
    b"9" * 400,
    b"-" + b"9" * 400,
    b"%D9%A1%D9%A2",  # digits, but not ours
]
PLAIN = [
    '{"$gt":""}',
    '{"$ne":null}',
    "$where",
    "$ne",
    "[$ne]=1",
    "' OR 1=1 --",
    ".*",
    "^o-",
    "null",
    "undefined",
    "NaN",
    "Infinity",
    "-1",
    "0",
    "1e3",
    "1e400",
    "0x10",
    "1_000",
    " 1",
    "2147483648",
    "9223372036854775808",
    "TRUE",
    "yes",
    "created,delivered",
    "CREATED",
    "-updated_at,created_at",
    "customer.name",
    "../../etc/passwd",
    "/etc/localtime",
    "Europe/../Europe/Berlin",
    "EUROPE/BERLIN",
    "Mars/Olympus",
    "UTC+25",
    "posixrules",
    "right/UTC",
    "0000-01-01T00:00:00Z",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
    "10000-01-01T00:00:00Z",
    "-2026-01-01T00:00:00Z",
    "2026-02-30T00:00:00Z",
    "2026-01-01T24:00:01Z",
    "2016-12-31T23:59:61Z",
    "2026-01-01T00:00:00",
    "2026-01-01T00:00:00+24:00",
    "2026-01-01T00:00:00+99:99",
    "2026-01-01",
    "1700000000",
    "٢٠٢٦-٠١-٠١T٠٠:٠٠:٠٠Z",  # noqa: RUF001 - digits, but not ours
    "AAAA",
    "eyJlIjoiYSIsInMiOlsxXX0",
    "AAAAAAAAAAAAAAAA" * 8,
]
VALUES = [*ENCODED, *(quote(value).encode() for value in PLAIN)]

NAMES = [
    b"status[$ne]",
    b"status%5B%24ne%5D",
    b"$where",
    b"%24or",
    b"__proto__",
    b"%00",
    b"%FF",
    b"",
    b"a" * 4000,
]
HEADERS = [
    b"",
    b"\xff\xfe",
    b"*",
    b'"',
    b'"' * 4001,
    b'W/"' * 3000,
    b"," * 8000,
    b";" * 8000,
    b"*/*;q=1e400",
    b"text/csv;q=nan, */*;q=-1",
    b"text/csv;q=" + b"9" * 4000,
    b"gzip;q=0.0001, identity;q=inf",
    b"Bearer",
    b"Bearer " + b"a" * 16_000,
    b"Bearer a.b.c",
    b"Basic OjpAOg==",
    b"00-" + b"f" * 32 + b"-" + b"0" * 16 + b"-01",
    b'{"$gt":""}',
    b"/" * 8000,
]
FREE = {"q", "customer_ref", "merchant_id", "order_id", "reference"}
"""Parameters in which some of the values above are lawful. They match nothing then."""


@pytest.fixture(scope="module")
async def query(mongodb_url: str) -> AsyncIterator[QueryClient]:
    async with running_query(mongodb_url) as client:
        await store(client.database, WORLD)
        yield client


@pytest.fixture(scope="module")
async def routes(query: QueryClient) -> list[Route]:
    return await routes_of(query)


async def ask(query: QueryClient, target: bytes, **headers: bytes) -> Answer:
    """Any answer but a fault of ours, and a problem document wherever it is a refusal."""
    named = {"authorization": f"Bearer {ADMIN}".encode()}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await raw_get(query, target, named)
    assert answer.status < 500, (target[:200], answer)
    if answer.status >= 400 and answer.body != NO_REQUEST:
        assert answer.slug in CATALOGUE, (target[:200], answer)
    return answer


async def ask_all(query: QueryClient, targets: Iterable[bytes]) -> dict[bytes, Answer]:
    places = asyncio.Semaphore(MAX_AT_ONCE)

    async def one(target: bytes) -> tuple[bytes, Answer]:
        async with places:
            return target, await ask(query, target)

    return dict(await asyncio.gather(*(one(target) for target in targets)))


def asked(route: Route, *pairs: tuple[bytes, bytes]) -> bytes:
    return route.url().encode() + b"?" + b"&".join(name + b"=" + value for name, value in pairs)


async def test_the_walk_sees_every_route_and_parameter(routes: list[Route]) -> None:
    assert {"/v1/orders", "/v1/orders/{order_id}", "/v1/events"} < {route.path for route in routes}
    assert sum(len(route.in_path) + len(route.in_query) for route in routes) >= 45


async def test_a_hostile_value_of_a_parameter_is_refused_or_matches_nothing(
    query: QueryClient, routes: list[Route]
) -> None:
    for name in {name for route in routes for name in route.in_query}:
        targets = [
            asked(route, (name.encode(), value))
            for route in routes
            if name in route.in_query
            for value in VALUES
            if (name, value) != ("wait", b"0")
        ]
        for target, answer in (await ask_all(query, targets)).items():
            if answer.status == 200:
                assert name in FREE, target
                assert b'"o-' not in answer.body, target
            else:
                assert answer.status in (400, 410, 422), (target, answer)


async def test_a_hostile_name_of_a_parameter_is_refused(query: QueryClient, routes: list[Route]) -> None:
    targets = [asked(route, (name, b"1")) for route in routes for name in NAMES]
    targets += [asked(route, *[(b"x%d" % number, b"1") for number in range(3000)]) for route in routes]
    targets += [asked(route, *[(name.encode(), b"1")] * 200) for route in routes for name in route.in_query]
    for target, answer in (await ask_all(query, targets)).items():
        assert answer.slug == "validation-failed", target


async def test_a_hostile_path_leads_nowhere(query: QueryClient, routes: list[Route]) -> None:
    targets = [
        route.url(**{name: value.decode()}).encode()
        for route in routes
        for name in route.in_path
        for value in VALUES
    ]
    for target, answer in (await ask_all(query, targets)).items():
        assert answer.status == 404, target


@pytest.mark.parametrize(
    "target",
    [b"/v1/orders?cursor=" + b"a" * 100_000, b"/v1/orders/\xff", b"/v1/orders?a=\x01", b"http://[::1"],
)
async def test_what_is_no_request_is_refused(query: QueryClient, target: bytes) -> None:
    assert (await ask(query, target)).status == 400


async def test_a_long_value_that_travels_is_refused(query: QueryClient, routes: list[Route]) -> None:
    targets = [asked(route, (name.encode(), b"9" * 60_000)) for route in routes for name in route.in_query]
    for target, answer in (await ask_all(query, targets)).items():
        assert answer.status in (400, 422), target[:100]


async def test_a_hostile_header_is_no_fault(query: QueryClient, routes: list[Route]) -> None:
    for route in routes:
        for value in HEADERS:
            for name in ("accept", "accept_encoding", "if_none_match", "traceparent"):
                answer = await ask(query, route.url().encode() + b"?merchant_id=m-none", **{name: value})
                assert answer.status in (200, 404, 406, 422), (route.path, name, value[:60], answer)
            answer = await ask(query, route.url().encode(), authorization=value)
            assert answer.slug == "unauthenticated", (route.path, value[:60])


TEXT = st.one_of(
    st.text(max_size=60).map(lambda text: quote(text, errors="replace").encode()), st.sampled_from(VALUES)
)
TIMES = ["1900-01-01T00:00:00Z", "2200-01-01T00:00:00Z", "1899-12-31T23:59:59-00:01", format_time(START)]
BOUNDARIES = {
    "status": ["created", "delivered"],
    "merchant_id": ["m-1", "m-2"],
    "order_id": ["o-1"],
    "active": ["true", "false"],
    "limit": ["1", "500"],
    "sort": SORTS,
    "interval": ["hour", "day"],
    "time_zone": [
        "UTC",
        "Africa/Monrovia",
        "Pacific/Apia",
        "Antarctica/Troll",
        "localtime",
        "Factory",
        "Etc/GMT+12",
    ],
    "clock": ["recorded", "occurred"],
    "group_by": ["merchant"],
    "since": ["created", "updated"],
    **dict.fromkeys(["at", "from", "to"], TIMES),
    **{f"{what}_{bound}": TIMES for what in ("created", "updated", "closed") for bound in ("from", "to")},
}
LAWFUL = {
    name: st.sampled_from([quote(value).encode() for value in values]) for name, values in BOUNDARIES.items()
}


@max_examples(200)
@given(data=st.data())
async def test_no_mixture_of_values_is_a_fault(
    query: QueryClient, routes: list[Route], data: st.DataObject
) -> None:
    route = data.draw(st.sampled_from(routes))
    names = data.draw(st.lists(st.sampled_from(route.in_query or ("limit",)), max_size=5, unique=True))
    pairs = [
        (name.encode(), data.draw(st.one_of(LAWFUL.get(name, TEXT), LAWFUL.get(name, TEXT), TEXT)))
        for name in names
        if name != "wait"
    ]
    await ask(query, asked(route, *pairs))


async def test_the_cursor_of_one_sort_is_foreign_to_the_others(query: QueryClient) -> None:
    async def page(sort: str, **params: str) -> Answer:
        return await query.get("/v1/orders", {"sort": sort, "limit": "5"} | params, token=token())

    for sort in SORTS:
        cursor = (await page(sort)).json["next_cursor"]
        for other in SORTS:
            answer = await page(other, cursor=cursor)
            assert answer.status == 200 if other == sort else answer.slug == "invalid-cursor"
        assert (await page(sort, cursor=cursor, merchant_id="m-1")).slug == "invalid-cursor"


async def test_a_foreign_host_changes_no_answer(query: QueryClient) -> None:
    """One answer holds an address of its own: the link to the next page."""
    head = ["GET /v1/orders?limit=1 HTTP/1.1", "Host: evil.example", f"Authorization: Bearer {ADMIN}"]
    answer = await exchange(query.url, "\r\n".join([*head, "", ""]).encode())
    assert answer.status == 200
    assert answer.headers["link"].startswith("</v1/orders?limit=1&cursor=")
