"""Subjects as issuers give them, wherever they are shown and used."""

import time
from datetime import timedelta

from notifier_stack import eventually
from query_stack import random_world, running_query, store, store_update, token

from tracking_shared.auth.revocations import revoke_subject
from tracking_shared.contracts.timestamps import format_time, now

SUBJECT = "=cmd|' /C calc'!A0 \u202e@example.com"


async def test_a_subject_is_shown_as_it_is_and_is_no_formula_in_a_file(mongodb_url: str) -> None:
    world = random_world(1, 0)
    for document in (*world.orders.values(), *world.events):
        document["source"]["id"] = SUBJECT  # type: ignore[index]
    [order_id] = world.orders
    async with running_query(mongodb_url) as query:
        await store(query.database, world)
        problem = {"slug": "invalid-transition", "detail": "", "members": {}}
        await store_update(
            query.database,
            order_id,
            "u-1",
            outcome="rejected",
            problem=problem,
            source={"type": "driver", "id": SUBJECT},
            recorded_at=now(),
        )
        bearer = token(sub="auth0|5f7c")
        order = await query.get(f"/v1/orders/{order_id}", token=bearer)
        history = await query.get(f"/v1/orders/{order_id}/history", token=bearer)
        assert order.json["source"]["id"] == history.json["items"][0]["source"]["id"] == SUBJECT
        params = {
            "from": format_time(now() - timedelta(hours=2)),
            "to": format_time(now() + timedelta(hours=1)),
        }
        for path, asked in (("/v1/orders", {}), ("/v1/reports/refusals", params)):
            table = await query.get(path, asked, token=bearer, headers={"Accept": "text/csv"})
            assert table.status == 200, table.body
            assert f"'{SUBJECT}".encode() in table.body, path
            assert f",{SUBJECT}".encode() not in table.body

        await revoke_subject(query.database, "auth0|5f7c", issued_before=now() + timedelta(seconds=5))

        async def revoked() -> bool:
            return (await query.get("/v1/orders", token=bearer)).status == 401

        await eventually(revoked)
        assert (await query.get("/v1/orders", token=token(sub="auth0|5f7d"))).status == 200
        later = token(sub="auth0|5f7c", iat=time.time())
        assert (await query.get("/v1/orders", token=later)).status == 401
