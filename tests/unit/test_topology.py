"""Queues that exist with other arguments than this release declares."""

import pytest

from tracking_shared.messaging.topology import as_it_exists, differences, partition_queue

QUEUE = partition_queue(0)


def refusal(name: str, current: str) -> str:
    return (
        f"PRECONDITION_FAILED - inequivalent arg '{name}' for queue 'orders.commands.p0' in vhost '/':"
        f" received the value '20000' of type 'signedint' but current is {current}"
    )


@pytest.mark.parametrize(
    ("name", "current", "value"),
    [
        ("x-max-length", "the value '50000' of type 'signedint'", 50_000),
        ("x-max-length-bytes", "the value '4294967296' of type 'long'", 2**32),
        ("x-delivery-limit", "the value '20' of type 'long'", 20),
        ("x-max-length", "'500'", 500),
        ("x-max-length", "none", None),
        ("x-queue-leader-locator", "the value 'balanced' of type 'longstr'", "balanced"),
        ("x-quorum-initial-group-size", "the value '5' of type 'signedint'", 5),
    ],
)
def test_a_queue_keeps_its_bounds_and_its_place(name: str, current: str, value: object) -> None:
    existing = as_it_exists(QUEUE, refusal(name, current))
    assert existing is not None
    assert existing.arguments.get(name) == value
    assert {key: one for key, one in existing.arguments.items() if key != name} == {
        key: one for key, one in QUEUE.arguments.items() if key != name
    }


@pytest.mark.parametrize(
    "name",
    [
        "x-queue-type",
        "x-single-active-consumer",
        "x-overflow",
        "x-dead-letter-exchange",
        "x-dead-letter-strategy",
        "durable",
    ],
)
def test_a_queue_without_a_guarantee_is_refused(name: str) -> None:
    assert as_it_exists(QUEUE, refusal(name, "none")) is None


def test_another_refusal_says_nothing_of_the_arguments() -> None:
    assert as_it_exists(QUEUE, "PRECONDITION_FAILED - something else") is None


def test_the_differences_are_named() -> None:
    existing = as_it_exists(QUEUE, refusal("x-max-length", "the value '50000' of type 'long'"))
    assert existing is not None
    assert differences(QUEUE, existing) == "x-max-length is 50000, not 20000"
    without = as_it_exists(QUEUE, refusal("x-max-length", "none"))
    assert without is not None
    assert differences(QUEUE, without) == "x-max-length is not set, not 20000"
