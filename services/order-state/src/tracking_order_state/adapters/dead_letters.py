"""Erases a person in the dead letters."""

import hashlib
import logging

from tracking_order_state.domain.erased_letters import REMOVED, erase_letter
from tracking_order_state.domain.erasure import Erasure
from tracking_shared.contracts.commands import COMMANDS_MEDIA_TYPE
from tracking_shared.contracts.formats import FORMAT
from tracking_shared.messaging.connection import connect
from tracking_shared.messaging.consumer import Delivery
from tracking_shared.messaging.publisher import Publisher
from tracking_shared.messaging.topology import DEAD_EXCHANGE, DEAD_QUEUE
from tracking_shared.storage.audit_trail import Act, Actor, AuditTrail

log = logging.getLogger(__name__)

LETTERS_AT_ONCE = 100
"""Up to half a MiB each. Each time takes a channel, of which a connection has about 2,000."""

_EXPECTED_HEADERS = ("x-death", FORMAT)
"""By which an operator sees where a letter comes from, and a reader how it is read."""


class DeadLetters:
    """The queue of dead letters, on a connection of its own: what is read goes back when that is closed."""

    def __init__(self, amqp_url: str, audit: AuditTrail) -> None:
        self._amqp_url = amqp_url
        self._audit = audit

    async def erase(self, erasure: Erasure) -> None:
        """Puts a letter without the customer in the place of each one that holds it. One that is no JSON and
        holds the contact is removed, after an entry in the audit trail. Safe to repeat.

        Raises:
            BrokerUnavailable: some letters may hold the customer still.
            DatabaseUnavailable: the same; the audit trail cannot be written.
        """
        async with connect(self._amqp_url, "order-state") as connection:
            if not await connection.depth(DEAD_QUEUE):
                return
            publisher = await connection.publisher(DEAD_EXCHANGE)
            while letters := (await connection.browse(DEAD_QUEUE, LETTERS_AT_ONCE))[1]:
                # Those that are put back here come last, and hold nothing any more: one look at each is
                # enough.
                for letter in letters:
                    await self._erase_in(letter, erasure, publisher)

    async def _erase_in(self, letter: Delivery, erasure: Erasure, publisher: Publisher) -> None:
        body = erase_letter(erasure, letter.body)
        if body is None:
            return
        name = hashlib.blake2b(letter.body, digest_size=6).hexdigest()
        if body == REMOVED:
            details = {"bytes": len(letter.body), "erasure": erasure.id}
            await self._audit.record(Actor("order-state", "service"), Act("dead.drop", name, details))
            log.warning("removed the dead letter %s, which is no JSON, for erasure %s", name, erasure.id)
        else:
            await self.put_back(letter, body, publisher)
        await letter.acknowledge()

    async def put_back(self, letter: Delivery, body: bytes, publisher: Publisher) -> None:
        """Publishes what takes the place of a letter, which is acknowledged after it: of a crash in between,
        two are left, and whoever sends both again has the same updates twice, which take effect once.

        Raises:
            BrokerUnavailable: no answer; there may be two of it.
        """
        headers = {key: letter.headers[key] for key in _EXPECTED_HEADERS if key in letter.headers}
        await publisher.publish("", body, content_type=COMMANDS_MEDIA_TYPE, headers=headers)
