"""The assignment of webhooks to processes. No I/O, no clock.

There is no coordinator: each process looks at the same webhooks and the same living senders and comes to
the same result, by rendezvous hashing: of all senders, the one whose hash with the webhook is the highest.
When one comes or goes, only its webhooks move. While two processes see different senders, a webhook may be
taken over once too often; the fence in its document decides.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

LEASE_SECONDS = 6.0
"""A sender that has not counted up for so long is dead to the others."""

HELD_SECONDS = 4.0
"""A sender that could not count up for so long sends nothing: less than the others wait, by what a request to
the database takes."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A webhook as every process sees it."""

    webhook_id: str
    fence: int
    sender: str | None


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of a process for its webhooks."""

    take: list[Seen] = field(default_factory=list)
    give_up: list[str] = field(default_factory=list)
    """Running here, and another living sender's to be."""
    drop: list[str] = field(default_factory=list)
    """Running here with a document that is not the stored one any more."""
    free: list[Seen] = field(default_factory=list)
    """Stored as this sender's, not running here, and another living sender's to be: it failed here, was
    changed, or could not be given up while the database was away."""


def preferred_sender(webhook_id: str, senders: Collection[str]) -> str:
    """The sender, of at least one, that a webhook belongs to."""
    return max(senders, key=lambda sender: (_hash(webhook_id, sender), sender))


def _hash(webhook_id: str, sender: str) -> bytes:
    return blake2b(f"{webhook_id}/{sender}".encode(), digest_size=8).digest()


def steps(webhooks: Iterable[Seen], senders: Collection[str], me: str, running: Mapping[str, int]) -> Steps:
    """The next steps of the sender `me`, which is one of the living `senders`. `running`: the webhooks that
    it delivers for, with the fence that it knows.
    """
    found = Steps()
    present = set()
    for webhook in webhooks:
        present.add(webhook.webhook_id)
        is_preferred = preferred_sender(webhook.webhook_id, senders) == me
        if webhook.webhook_id in running:
            if running[webhook.webhook_id] != webhook.fence or webhook.sender != me:
                found.drop.append(webhook.webhook_id)
            elif not is_preferred:
                found.give_up.append(webhook.webhook_id)
        elif is_preferred and (webhook.sender in (None, me) or webhook.sender not in senders):
            found.take.append(webhook)
        elif webhook.sender == me and not is_preferred:
            found.free.append(webhook)
    found.drop.extend(running.keys() - present)
    return found


class LivingSenders:
    """The senders that count up, by this process's own steady clock."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._seen: dict[str, tuple[int, float]] = {}

    def look(self, beats: Mapping[str, int], now: float) -> set[str]:
        """The living senders, and always this one. One that is seen for the first time counts as alive."""
        for sender, count in beats.items():
            if sender not in self._seen or self._seen[sender][0] != count:
                self._seen[sender] = (count, now)
        self._seen = {sender: seen for sender, seen in self._seen.items() if sender in beats}
        return {self._me, *(s for s, (_, at) in self._seen.items() if now - at < LEASE_SECONDS)}
