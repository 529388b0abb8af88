"""One order by its id: the read that is asked for most."""

from pymongo.errors import AutoReconnect, ServerSelectionTimeoutError

from shared.database import MAJORITY, Database
from shared.documents import OrderDocument

_ONE = {"limit": 1, "singleBatch": True, "readConcern": MAJORITY.document}


async def order_by_id(database: Database, order_id: str) -> OrderDocument | None:
    """The order as it stands, if there is one.

    Raises:
        PyMongoError: to be turned into ours by the caller, who also bounds the time.
    """
    # As a plain command: to set up a cursor for one document costs the driver an eighth of all that an answer
    # takes. But it repeats a find whose connection was lost, and never a command.
    command = {"find": "orders", "filter": {"_id": order_id}, **_ONE}
    try:
        answer = await database.raw.command(command, codec_options=database.raw.codec_options)
    except ServerSelectionTimeoutError:
        raise
    except AutoReconnect:
        return await database.orders.find_one({"_id": order_id})
    found: list[OrderDocument] = answer["cursor"]["firstBatch"]
    return found[0] if found else None
