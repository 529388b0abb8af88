"""The audit trail: what is in it, who may read it, and that nothing is done without it."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from pydantic import TypeAdapter
from query_stack import PARTITIONS, SECRET, QueryClient, random_world, running_query, store, token

from command_line import run
from tracking.cli.token_commands import NotRevoked, parse_revocation, write_revocation
from tracking_query.audit_routes import AuditPage
from tracking_shared.contracts.timestamps import format_time, now
from tracking_shared.storage.audit_trail import ACTIONS, Act, Actor, AuditTrail, record_installation
from tracking_shared.storage.database import open_database

ADMIN = token(sub="root-operator", scope="orders:admin", merchants=[])
TOKEN_OF_ANN = ("token", "--sub", "driver-9", "--scope", "orders:read", "--merchants", "*", "--as", "ann")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
async def query(mongodb_url: str) -> AsyncIterator[QueryClient]:
    async with running_query(mongodb_url) as client:
        await store(client.database, random_world(20, 2))
        yield client


@pytest.fixture
async def trail(query: QueryClient) -> AuditTrail:
    """That of the query service, empty."""
    await query.database.audit.delete_many({})
    return AuditTrail(query.database)


async def entries(query: QueryClient, **params: Any) -> list[dict[str, Any]]:
    """What an operator reads, page after page."""
    found: list[dict[str, Any]] = []
    more: dict[str, str] = {}
    while True:
        answer = await query.get("/v1/audit", params | more, token=ADMIN)
        assert answer.status == 200, answer.body
        page = TypeAdapter(AuditPage).validate_python(answer.json)
        found += answer.json["items"]
        assert ("link" in answer.headers) == (page["next_cursor"] is not None)
        if page["next_cursor"] is None:
            return found
        more = {"cursor": page["next_cursor"]}


async def tracking(query: QueryClient, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """Exit code, output and errors of the command, on the database of the query service."""
    of_stack = {
        "MONGODB_DATABASE": query.database.raw.name,
        "JWT_SECRET": SECRET,
    }
    finished = await run(*arguments, environment=of_stack | environment)
    return finished.exit_code, finished.output, finished.errors


async def test_it_is_read_newest_first_by_page_action_and_time(query: QueryClient, trail: AuditTrail) -> None:
    for number in range(7):
        act = Act("parked.skip" if number % 2 else "parked.replay", f"o-{number}", {"behind": number})
        await trail.record(Actor("ann", "command-line"), act)
    subjects = [f"o-{number}" for number in reversed(range(7))]
    assert [entry["subject"] for entry in await entries(query)] == subjects
    assert [entry["subject"] for entry in await entries(query, limit=2)] == subjects
    skipped = await entries(query, action="parked.skip", limit=1)
    assert [entry["subject"] for entry in skipped] == subjects[1::2]
    newest = skipped[0]
    assert newest["actor"] == {"sub": "ann", "via": "command-line"}
    assert newest["details"] == {"behind": 5}
    assert await entries(query, to=format_time(now() - timedelta(minutes=1))) == []
    assert len(await entries(query, **{"from": format_time(now() - timedelta(minutes=1))})) == 7


async def test_only_operators_of_the_whole_installation_read_it(query: QueryClient) -> None:
    refused = [
        token(),
        token(scope="orders:read orders:write", merchants=["*"]),
        token(scope="orders:admin", orders=["o-1"]),
    ]
    for bearer in refused:
        assert (await query.get("/v1/audit", token=bearer)).slug == "forbidden"
    assert (await query.get("/v1/audit")).slug == "unauthenticated"
    assert (await query.get("/v1/audit", {"action": "orders.eaten"}, token=ADMIN)).slug == "validation-failed"
    assert (await query.get("/v1/audit", {"cursor": "nonsense"}, token=ADMIN)).slug == "invalid-cursor"


async def test_a_cursor_of_another_filter_is_refused(query: QueryClient, trail: AuditTrail) -> None:
    for _ in range(2):
        await trail.record(Actor("ann", "api"), Act("parked.skip", "o-1", {}))
    cursor = (await query.get("/v1/audit", {"limit": "1"}, token=ADMIN)).json["next_cursor"]
    params = {"cursor": cursor, "action": "parked.skip"}
    assert (await query.get("/v1/audit", params, token=ADMIN)).slug == "invalid-cursor"


async def test_an_operator_who_takes_a_file_is_recorded_and_a_merchant_is_not(
    query: QueryClient, trail: AuditTrail
) -> None:
    as_file = {"Accept": "text/csv"}
    params = [("customer_ref", "+49 30 7"), ("status", "created"), ("merchant_id", "m-1")]
    assert (await query.get("/v1/orders", params, token=token(), headers=as_file)).status == 200
    assert (await query.get("/v1/orders", params, token=ADMIN)).status == 200
    assert await entries(query) == []

    assert (await query.get("/v1/orders", params, token=ADMIN, headers=as_file)).status == 200
    (entry,) = await entries(query)
    assert (entry["action"], entry["actor"]) == (
        "orders.exported",
        {"sub": "root-operator", "via": "api"},
    )
    assert entry["details"] == {
        "media_type": "text/csv",
        "filters": {"status": ["created"], "merchant_id": ["m-1"], "customer_ref": True},
    }
    stored = str(await query.database.audit.find({}).to_list())
    assert "+49" not in stored


async def test_a_revocation_is_recorded_with_who_did_it(
    query: QueryClient, trail: AuditTrail, mongodb_url: str
) -> None:
    actor = Actor("ann", "command-line")
    for revocation in (parse_revocation("driver-7", "", "", ""), parse_revocation("", "", "token-1", "")):
        await write_revocation(mongodb_url, query.database.raw.name, revocation, actor)
    found = [(entry["action"], entry["subject"], entry["actor"]["sub"]) for entry in await entries(query)]
    assert found == [("revocation.token", "token-1", "ann"), ("revocation.subject", "driver-7", "ann")]


async def test_what_cannot_be_recorded_is_not_done(
    query: QueryClient, trail: AuditTrail, mongodb_url: str
) -> None:
    # The database refuses entries, and nothing else.
    await query.database.raw.drop_collection("audit")
    await query.database.raw.create_collection("audit", validator={"never": {"$exists": True}})
    try:
        revocation = parse_revocation("", "", "kept", "")
        with pytest.raises(NotRevoked, match="perhaps not revoked"):
            await write_revocation(
                mongodb_url, query.database.raw.name, revocation, Actor("ann", "command-line")
            )
        assert await query.database.revocations.find_one({"_id": "jti/kept"}) is None
        refused = await query.get("/v1/orders", token=ADMIN, headers={"Accept": "text/csv"})
        assert refused.slug == "database-unavailable"
        code, output, errors = await tracking(query, *TOKEN_OF_ANN, MONGODB_URL=mongodb_url)
        assert (code, output) == (1, "")
        assert errors.startswith("tracking: no token: it cannot be recorded")
    finally:
        await query.database.raw.drop_collection("audit")
        await query.database.prepare(PARTITIONS)


async def test_a_token_that_is_made_by_hand_is_recorded_without_the_token(
    query: QueryClient, trail: AuditTrail, mongodb_url: str
) -> None:
    code, output, errors = await tracking(query, *TOKEN_OF_ANN, MONGODB_URL=mongodb_url)
    assert (code, errors) == (0, "")
    claims = jwt.decode(output.strip(), options={"verify_signature": False})
    (entry,) = await entries(query)
    assert (entry["action"], entry["subject"]) == ("token.issued", "driver-9")
    assert entry["actor"] == {"sub": "ann", "via": "command-line"}
    assert entry["details"] == {"jti": claims["jti"], "scope": "orders:read"}
    signature = output.strip().rsplit(".", 1)[1]
    assert signature not in str(await query.database.audit.find({}).to_list())

    code, listed, _ = await tracking(query, "audit", "--since", "5m", MONGODB_URL=mongodb_url)
    assert code == 0
    details = f"jti={claims['jti']} scope=orders:read"
    assert listed == f"{entry['at']}  ann (command-line)  token.issued  driver-9  {details}\n"


async def test_without_a_known_database_a_token_is_made_and_says_that_it_is_in_no_trail(
    query: QueryClient, tmp_path: Path
) -> None:
    code, output, errors = await tracking(query, *TOKEN_OF_ANN, "--data-dir", str(tmp_path), MONGODB_URL="")
    assert code == 0
    assert output.count(".") == 2
    assert errors == "tracking: not in the audit trail, no database is known here\n"


async def test_the_start_of_an_installation_is_recorded_once(mongodb_url: str, database_name: str) -> None:
    async with open_database(mongodb_url, database_name) as database:
        await database.prepare(PARTITIONS)
        await asyncio.gather(*(record_installation(database) for _ in range(4)))
        (entry,) = await database.audit.find({}).to_list()
        (partition, *_) = await database.partitions.find({}).to_list()
        assert entry["details"] == {"partitions": PARTITIONS, "epoch": partition["epoch"]}
        assert entry["expires_at"] is None
        await database.client.drop_database(database_name)


async def test_an_entry_is_kept_as_long_as_was_set(query: QueryClient, trail: AuditTrail) -> None:
    await AuditTrail(query.database, kept_days=7).record(Actor("a", "api"), Act("parked.skip", "o-1", {}))
    (entry,) = await query.database.audit.find({}).to_list()
    assert entry["expires_at"] is not None
    assert entry["expires_at"] - entry["at"] == timedelta(days=7)
    indexes = await query.database.audit.index_information()
    assert indexes["ttl"]["expireAfterSeconds"] == 0


def test_no_code_changes_an_entry() -> None:
    sources = [path for path in ROOT.glob("*/**/src/**/*.py") if ".venv" not in path.parts]
    assert len(sources) > 100
    used = {
        method
        for path in sources
        for method in re.findall(r"(?:\.audit|\[\"audit\"\])\.([a-z_]+)\(", path.read_text())
    } - {"record"}
    assert used == {"insert_one", "insert_many", "find_one", "find", "aggregate"}


def test_every_action_is_taken_somewhere() -> None:
    sources = "".join(path.read_text() for path in ROOT.glob("*/**/src/**/*.py") if ".venv" not in path.parts)
    for action in ACTIONS:
        assert len(re.findall(rf'"{action}"', sources)) > 2, action
