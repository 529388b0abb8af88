"""The members of the queues: on how many nodes of the cluster each one is. AMQP does not say; the management
API of RabbitMQ does, where it is switched on.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from aiohttp import ClientError, ClientSession, ClientTimeout, encode_basic_auth

MEMBERS_WANTED = 3
"""By default RabbitMQ places a quorum queue on so many nodes, or on all if there are fewer. A queue that was
declared while nodes were missing has fewer, permanently."""

_TIMEOUT = ClientTimeout(total=10)

NOT_ASKED = "members of the queues: not known, RABBITMQ_MANAGEMENT_URL is not set"


def members_report(queues: Sequence[Mapping[str, Any]], names: Sequence[str], nodes: int) -> list[str]:
    """One line for each of these queues that has too few members, or too few that are up; one line for all
    if none has. `queues` and `nodes` are what the management API says.
    """
    wanted = min(MEMBERS_WANTED, nodes)
    found = {queue["name"]: queue for queue in queues}
    lines = [line for name in names if (line := _fault(found.get(name), wanted, name))]
    return lines or [f"members of the queues: {wanted} or more of each, and all are up"]


def _fault(queue: Mapping[str, Any] | None, wanted: int, name: str) -> str | None:
    if queue is None:
        return f"  {name}: it is not among the queues that the management API shows"
    members, online = len(queue.get("members", ())), len(queue.get("online", ()))
    if members < wanted:
        return f"  {name}: too few members, {members} instead of {wanted}; `rabbitmq-queues grow` adds them"
    if online < members:
        return f"  {name}: {online} of its {members} members are up"
    return None


async def queue_members(management_url: str, amqp_url: str, names: Sequence[str]) -> list[str]:
    """Describes the members of these queues.

    `management_url`: `http://user:password@host:15672`, of a user with the tag `monitoring`. "": not known.
    """
    if not management_url:
        return [NOT_ASKED]
    parts = urlsplit(management_url)
    login = encode_basic_auth(unquote(parts.username or ""), unquote(parts.password or ""))
    base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/api"
    headers = {"Authorization": login}
    vhost = quote(unquote(urlsplit(amqp_url).path[1:]) or "/", safe="")
    try:
        async with ClientSession(headers=headers, timeout=_TIMEOUT, raise_for_status=True) as session:
            async with session.get(f"{base}/queues/{vhost}?columns=name,members,online") as answer:
                queues = await answer.json()
            async with session.get(f"{base}/nodes?columns=name") as answer:
                nodes = await answer.json()
    except (ClientError, TimeoutError, ValueError) as error:
        reason = f"the management API does not answer ({type(error).__name__})"
        return [f"members of the queues: not known, {reason}"]
    return members_report(queues, names, len(nodes))
