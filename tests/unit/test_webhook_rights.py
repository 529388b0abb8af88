"""Who may manage webhooks, which ones exist for whom, and what each gets."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking_query.webhooks.changes import (
    enabled,
    granted,
    new_webhook,
    regranted,
    replayed,
    webhook_id_of,
)
from tracking_query.webhooks.webhook_bodies import CreateWebhook, FilterBody
from tracking_shared.contracts.access import (
    Grant,
    Principal,
    covers,
    may_manage_webhooks,
    narrowed,
    reaches,
    readable_orders,
)
from tracking_shared.contracts.cursors import Position
from tracking_shared.contracts.documents import EventDocument
from tracking_shared.contracts.problems import ProblemError
from tracking_shared.contracts.webhooks import EventSelection, WebhookDocument, selection_of

MERCHANTS = ["m-1", "m-2", "m-3"]
ORDERS = ["o-1", "o-2", "o-3"]
TIME = datetime(2026, 3, 1, 12, tzinfo=UTC)

names = st.sets(st.sampled_from(MERCHANTS)).map(frozenset)
grants = st.builds(
    Grant,
    merchants=st.one_of(names, st.just(frozenset({"*"}))),
    orders=st.one_of(st.none(), st.sets(st.sampled_from(ORDERS)).map(frozenset)),
)
filters = st.one_of(st.none(), st.sets(st.sampled_from(MERCHANTS), min_size=1))


def principal(scope: str, grant: Grant) -> Principal:
    return Principal(
        subject="shop",
        source_type="system",
        scopes=frozenset(scope.split()),
        grant=grant,
        expires_at=2e9,
        token_id="t-1",
        issued_at=1.0,
    )


def reached(grant: Grant) -> set[tuple[str, str]]:
    """Every order of every merchant that exists for the holder."""
    everybody = [*MERCHANTS, "m-unknown"]
    return {(o, m) for o in [*ORDERS, "o-unknown"] for m in everybody if reaches(grant, o, m)}


@given(grants, grants)
def test_a_grant_covers_another_one_only_if_it_reaches_all_of_it(grant: Grant, other: Grant) -> None:
    if covers(grant, other):
        assert reached(other) <= reached(grant)


@given(grants)
def test_a_grant_covers_itself(grant: Grant) -> None:
    assert covers(grant, grant)


@given(grants, filters)
def test_a_narrowed_grant_reaches_what_both_allow(grant: Grant, merchants: set[str] | None) -> None:
    readable = readable_orders(grant, merchants, None)
    by_orders_alone = grant.orders is not None and not grant.merchants
    if not by_orders_alone:
        expected = {
            (o, m) for o, m in reached(grant) if readable.merchants is None or m in readable.merchants
        }
        found = reached(narrowed(grant, merchants, None))
        # Without any merchant left, `orders` alone would reach more: such a webhook is refused.
        assert found == expected or not narrowed(grant, merchants, None).merchants


@pytest.mark.parametrize(
    ("scope", "grant", "expected"),
    [
        ("webhooks:manage", Grant(merchants=frozenset({"m-1"})), True),
        ("webhooks:manage", Grant(orders=frozenset({"o-1"})), False),
        ("webhooks:manage", Grant(), False),
        ("orders:read orders:write", Grant(merchants=frozenset({"*"})), False),
        ("orders:admin", Grant(merchants=frozenset({"*"})), True),
        ("orders:admin", Grant(merchants=frozenset({"*"}), orders=frozenset({"o-1"})), False),
    ],
)
def test_who_may_manage_webhooks(scope: str, grant: Grant, expected: bool) -> None:
    assert may_manage_webhooks(principal(scope, grant)) is expected


def test_a_filter_of_merchants_that_are_not_granted_is_refused() -> None:
    caller = principal("webhooks:manage", Grant(merchants=frozenset({"m-1"})))

    assert granted(caller, FilterBody(merchant_id=["m-1", "m-2"]))["merchants"] == ["m-1"]
    with pytest.raises(ProblemError, match="merchants"):
        granted(caller, FilterBody(merchant_id=["m-2"]))


ADMIN = Principal(
    subject="operator",
    source_type="operator",
    scopes=frozenset({"orders:admin"}),
    grant=Grant(merchants=frozenset({"*"})),
    expires_at=2e9,
    token_id="t-admin",
)


@pytest.mark.parametrize(
    ("wanted", "merchants", "holder"),
    [
        (None, ["m-1", "m-2"], "t-1"),  # not all that an administrator reads
        (["m-1"], ["m-1"], "t-1"),
        (["m-1", "m-3"], ["m-1", "m-3"], "t-admin"),
    ],
)
def test_an_administrator_who_changes_a_filter_adds_only_merchants_that_it_names(
    wanted: list[str] | None, merchants: list[str], holder: str
) -> None:
    shop = principal("webhooks:manage", Grant(merchants=frozenset({"m-1", "m-2"})))
    found = regranted(
        stored_webhook(grant=granted(shop, FilterBody())), ADMIN, FilterBody(merchant_id=wanted)
    )

    assert (found["merchants"], found["token_id"]) == (merchants, holder)


def test_an_administrator_who_changes_a_filter_leaves_the_orders_that_the_token_was_limited_to() -> None:
    shop = principal("webhooks:manage", Grant(merchants=frozenset({"m-1"}), orders=frozenset({"o-1"})))
    webhook = stored_webhook(grant=granted(shop, FilterBody()))

    assert regranted(webhook, ADMIN, FilterBody())["orders"] == ["o-1"]
    assert regranted(webhook, ADMIN, FilterBody(merchant_id=["m-2"]))["orders"] == ["o-1"]


def test_the_holder_who_changes_a_filter_gets_what_the_token_reaches() -> None:
    shop = principal("webhooks:manage", Grant(merchants=frozenset({"m-1", "m-2"})))
    webhook = stored_webhook(grant=granted(shop, FilterBody(merchant_id=["m-1"])))

    assert regranted(webhook, shop, FilterBody())["merchants"] == ["m-1", "m-2"]
    with pytest.raises(ProblemError, match="merchants"):
        regranted(webhook, shop, FilterBody(merchant_id=["m-3"]))


def event(order_id: str, merchant_id: str, **members: Any) -> EventDocument:
    found: dict[str, Any] = {
        "order_id": order_id,
        "merchant_id": merchant_id,
        "version": 2,
        "status": "created",
    }
    return cast(EventDocument, found | members)


@given(grants, filters, st.sampled_from(ORDERS), st.sampled_from(MERCHANTS))
def test_a_webhook_never_gets_what_its_grant_does_not_reach(
    grant: Grant, merchants: set[str] | None, order_id: str, merchant_id: str
) -> None:
    wanted = None if merchants is None else frozenset(merchants)
    selection = EventSelection(grant, wanted, None, None, None)
    found = selection.matches(event(order_id, merchant_id))

    assert found == (reaches(grant, order_id, merchant_id) and (wanted is None or merchant_id in wanted))


def test_types_that_events_do_not_store_follow_from_their_version() -> None:
    def selects(kind: str, **members: Any) -> bool:
        selection = EventSelection(Grant(merchants=frozenset({"*"})), None, None, None, frozenset({kind}))
        return selection.matches(event("o-1", "m-1", **members))

    assert selects("order.created", version=1)
    assert not selects("order.created", version=2)
    assert selects("order.status_changed", version=2)
    assert not selects("order.status_changed", version=2, type="order.corrected")
    assert selects("order.corrected", version=2, type="order.corrected")


def stored_webhook(**members: Any) -> WebhookDocument:
    caller = principal("webhooks:manage", Grant(merchants=frozenset({"m-1"})))
    body = CreateWebhook.model_validate({"url": "https://hooks.example.com/"})
    grant = granted(caller, body.filter)
    webhook = new_webhook("wh_1", body, grant, Position("epoch", (5, 7)), TIME)
    return cast(WebhookDocument, {**webhook, **members})


def test_a_new_webhook_gets_everything_of_its_grant() -> None:
    selection = selection_of(stored_webhook())

    assert selection.grant == Grant(merchants=frozenset({"m-1"}))
    assert not selection.is_everything
    assert selection.with_customer


def test_a_replay_goes_back_in_each_partition_and_never_forward() -> None:
    assert replayed(stored_webhook(), Position("epoch", (2, 9)), {}, TIME)["seqs"] == [2, 7]


def test_a_replay_takes_delayed_orders_back_to_their_first_event_behind_the_position() -> None:
    delayed = {
        "order_id": "o-1",
        "partition": 0,
        "version": 4,
        "failures": 3,
        "since": TIME,
        "next_at": TIME + timedelta(hours=1),
    }
    back = replayed(stored_webhook(delayed=[delayed]), Position("epoch", (2, 2)), {"o-1": 2}, TIME)
    not_so_far = replayed(stored_webhook(delayed=[delayed]), Position("epoch", (2, 2)), {"o-1": 6}, TIME)

    assert (back["delayed"][0]["version"], back["delayed"][0]["next_at"]) == (2, TIME)
    assert not_so_far["delayed"][0]["version"] == 4


def test_a_replay_on_a_log_that_was_replaced_begins_at_the_position() -> None:
    missed = {"events": 3, "at": TIME, "through": [5, 7]}
    changes = replayed(stored_webhook(missed=missed), Position("other", (9, 9)), {}, TIME)

    assert (changes["epoch"], changes["seqs"], changes["delayed"]) == ("other", [9, 9], [])
    assert changes["missed"] == {"events": 3, "at": TIME, "through": []}


def test_enabling_ends_all_waits_and_takes_the_token_of_the_caller() -> None:
    delayed = {"order_id": "o-1", "partition": 0, "version": 4, "failures": 9, "since": TIME, "next_at": TIME}
    webhook = stored_webhook(state="disabled", reason="revoked", failures=4, delayed=[delayed])
    caller = principal("webhooks:manage", Grant(merchants=frozenset({"m-1", "m-2"})))
    later = TIME + timedelta(days=1)
    changes = enabled(webhook, caller, later)

    assert (changes["state"], changes["reason"], changes["failures"]) == ("failing", None, 0)
    assert changes["delayed"] == [{**delayed, "failures": 0, "since": None, "next_at": later}]
    assert changes["grant"]["merchants"] == ["m-1"]
    assert changes["grant"]["token_id"] == "t-1"
    assert "seqs" not in changes


def test_the_id_of_a_webhook_depends_on_caller_and_key() -> None:
    assert webhook_id_of("a", "k") == webhook_id_of("a", "k")
    assert len({webhook_id_of("a", "k"), webhook_id_of("b", "k"), webhook_id_of("a", "l")}) == 3
