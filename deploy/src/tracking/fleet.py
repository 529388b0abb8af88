"""A simulated fleet: the requests of merchants and drivers for one order, mistakes included.

Pure, except for the random numbers that it is given. Times are relative; `demo` turns them into instants.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from tracking.devstack.tokens import SourceType
from tracking_shared.contracts.references import referenced_order_id

MERCHANTS = ("acme-foods", "bolt-books", "cedar-home", "delta-parts", "elm-flowers", "fjord-fish")
DRIVERS_PER_MERCHANT = 4
REFERENCES = {"acme-foods": "WH/OUT/{:06}", "bolt-books": "#{:06}"}
"""The numbers that these merchants give their orders. Those of the others have none."""

_FIRST_NAMES = [
    "Ada",
    "Bela",
    "Chen",
    "Dora",
    "Emeka",
    "Farah",
    "Goran",
    "Hana",
    "Ivo",
    "Jun",
    "Kofi",
    "Lena",
]
_LAST_NAMES = ["Abel", "Brandt", "Costa", "Diaz", "Eriksen", "Fofana", "Gupta", "Horvat", "Ito", "Jansen"]
_ATTEMPTS = ("Nobody at home", "The address was not found", "The shop was closed", "Refused at the door")
_NOTES = ("Ring twice", "Leave it with the neighbour", "The lift is out of order", "Fragile: keep it upright")
_DELAYS = ("Heavy traffic", "The van broke down", "The depot is short of drivers")
_REASONS = ("The wrong parcel was scanned", "The parcel is still in the van")
_DEPOTS = ("north", "east", "south", "west", "harbour")

CANCELLED_SHARE = 0.08
REPEATED_SHARE = 0.05
"""Of the steps: sent twice with the same key, as by an app that missed the answer."""
ILLEGAL_SHARE = 0.12
"""Of the orders: an extra update, usually with an illegal transition."""
LATE_SHARE = 0.06
"""Of the steps: sent long after they occurred, as from a phone without coverage."""

DUE_SHARE = 0.9
"""Of the orders: with a due time."""
DUE_FACTORS = (0.5, 2.5)
"""The due time in relation to the time that the order takes: a quarter is late, most of them long enough to
be overdue before they are delivered."""

ATTEMPTED_SHARE = 0.12
"""Of the deliveries: an attempt fails before."""
DELAYED_SHARE = 0.15
"""Of the orders on their way: the driver reports a delay, with a new estimate."""
ESTIMATED_SHARE = 0.4
"""Of the orders that are picked up: the shop gives an estimate of the arrival."""
ESTIMATE_SECONDS = (8.0, 40.0)
NOTED_SHARE = 0.15
"""Of the orders: the desk adds a note on the way."""
PROVED_SHARE = 0.3
"""Of the deliveries: a proof follows."""
CORRECTED_SHARE = 0.03
"""Of the deliveries: the driver scanned the wrong parcel. The desk corrects it, and the order is delivered
later."""

MAX_SCANS = 3
LATE_SECONDS = (300.0, 2400.0)


@dataclass(frozen=True, slots=True)
class Sender:
    """A caller with a token of its own."""

    subject: str
    source_type: SourceType
    merchant: str


@dataclass(frozen=True, slots=True)
class Step:
    """One request to ingest. Without `status` and `kind` it creates the order; `kind` makes it a checkpoint,
    `reason` a correction.
    """

    sender: Sender
    wait_seconds: float
    """After the previous step."""
    status: str | None = None
    late_seconds: float = 0.0
    """The time between the event and the request."""
    repeated: bool = False
    """The request is sent a second time with the same key."""
    metadata: dict[str, Any] = field(default_factory=dict)
    kind: str | None = None
    message: str | None = None
    reason: str | None = None
    eta_seconds: float | None = None
    """From the event to the estimated arrival; None: it tells nothing about that."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All requests of one order."""

    order_id: str
    reference: str | None
    """The merchant's number, from which the order id is derived."""
    merchant: str
    customer: dict[str, str]
    steps: list[Step]
    due_seconds: float | None = None
    """From its creation to its due time; None: it has none."""


def plan_order(random: Random) -> Plan:
    """Plans a new order and all its requests."""
    merchant = random.choice(MERCHANTS)
    order_id, reference = _names(random, merchant)
    steps = list(_steps(random, merchant))
    if random.random() < ILLEGAL_SHARE:
        steps.insert(random.randint(1, len(steps)), _illegal_step(random, merchant))
    return Plan(order_id, reference, merchant, _customer(random), steps, _due_seconds(random, steps))


def _names(random: Random, merchant: str) -> tuple[str, str | None]:
    if merchant not in REFERENCES:
        return f"{merchant.partition('-')[0]}-{random.getrandbits(40):010x}", None
    reference = REFERENCES[merchant].format(random.randrange(1_000_000))
    return referenced_order_id(merchant, reference), reference


def _due_seconds(random: Random, steps: list[Step]) -> float | None:
    if random.random() >= DUE_SHARE:
        return None
    return sum(step.wait_seconds for step in steps) * random.uniform(*DUE_FACTORS)


def _steps(random: Random, merchant: str) -> Iterator[Step]:
    driver = _driver(random, merchant)
    yield _step(random, _shop(merchant), None, {"parcels": random.randint(1, 4)})
    moves = ["picked_up", "in_transit", *["in_transit"] * random.randint(0, MAX_SCANS), "delivered"]
    cancelled_at = random.randrange(len(moves)) if random.random() < CANCELLED_SHARE else None
    for number, status in enumerate(moves):
        if number == cancelled_at:
            yield _step(random, _desk(merchant), "cancelled", {"reason": "customer asked"})
            return
        if status == "delivered":
            yield from _delivery(random, driver, _desk(merchant))
        else:
            yield _step(random, driver, status, _metadata(random, status))
        yield from _between(random, status, driver, merchant)


def _between(random: Random, status: str, driver: Sender, merchant: str) -> Iterator[Step]:
    if status == "picked_up" and random.random() < NOTED_SHARE:
        yield _checkpoint(random, _desk(merchant), "note", random.choice(_NOTES))
    if status == "picked_up" and random.random() < ESTIMATED_SHARE:
        yield _estimate(random, _shop(merchant), "eta_changed", None)
    if status == "in_transit" and random.random() < DELAYED_SHARE:
        yield _estimate(random, driver, "delayed", random.choice(_DELAYS))


def _delivery(random: Random, driver: Sender, desk: Sender) -> Iterator[Step]:
    if random.random() < ATTEMPTED_SHARE:
        yield _checkpoint(random, driver, "delivery_attempted", random.choice(_ATTEMPTS))
    if random.random() < CORRECTED_SHARE:
        yield _step(random, driver, "delivered", _metadata(random, "delivered"))
        yield Step(desk, random.uniform(1.5, 6.0), "in_transit", reason=random.choice(_REASONS))
    yield _step(random, driver, "delivered", _metadata(random, "delivered"))
    if random.random() < PROVED_SHARE:
        yield _checkpoint(random, driver, "proof_added", None)


def _checkpoint(random: Random, sender: Sender, kind: str, message: str | None) -> Step:
    return Step(sender, random.uniform(1.5, 6.0), kind=kind, message=message)


def _estimate(random: Random, sender: Sender, kind: str, message: str | None) -> Step:
    checkpoint = _checkpoint(random, sender, kind, message)
    return replace(checkpoint, eta_seconds=random.uniform(*ESTIMATE_SECONDS))


def _step(random: Random, sender: Sender, status: str | None, metadata: dict[str, Any]) -> Step:
    return Step(
        sender,
        wait_seconds=random.uniform(1.5, 6.0) if status else 0.0,
        status=status,
        late_seconds=random.uniform(*LATE_SECONDS) if status and random.random() < LATE_SHARE else 0.0,
        repeated=random.random() < REPEATED_SHARE,
        metadata=metadata,
    )


def _illegal_step(random: Random, merchant: str) -> Step:
    # Where this transition happens to be legal, a later one of the order is not.
    status = random.choice(("picked_up", "delivered", "created"))
    return Step(_driver(random, merchant), random.uniform(0.2, 1.0), status)


def _metadata(random: Random, status: str) -> dict[str, Any]:
    if status == "in_transit":
        return {"depot": random.choice(_DEPOTS)}
    return {"signed": random.random() < 0.8} if status == "delivered" else {}


def _desk(merchant: str) -> Sender:
    return Sender("desk", "operator", merchant)


def _shop(merchant: str) -> Sender:
    return Sender(f"shop.{merchant}", "system", merchant)


def _driver(random: Random, merchant: str) -> Sender:
    return Sender(f"driver-{merchant[0]}{random.randint(1, DRIVERS_PER_MERCHANT)}", "driver", merchant)


def _customer(random: Random) -> dict[str, str]:
    name = f"{random.choice(_FIRST_NAMES)} {random.choice(_LAST_NAMES)}"
    return {"name": name, "contact_ref": f"crm-{random.randint(1, 400):04d}"}
