"""An in-memory server for tests: `async with FakeServer() as server:` and send to `server.url`.

It decides as the real services do with their default workflow, and keeps everything in memory. It has the
routes of `routes.py` and `stream.py`; everything else is answered with 501, so that a test notices.
"""

from tracking_client.fake.server import FakeServer

__all__ = ["FakeServer"]
