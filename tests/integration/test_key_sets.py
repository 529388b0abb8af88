"""Keys that are published at a URL or in a file: kept current without a restart, whatever the issuer does."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, time
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from callers import eventually
from issuers import Issuer
from tracking_shared.auth.keys import MAX_JWKS_BYTES, InvalidKeys, KeyRing, KeysUnavailable, fetch
from tracking_shared.auth.tokens import TokenError, TokenVerifier, UnknownKey
from tracking_shared.settings import Settings


@dataclass
class KeyServer:
    """Serves the set of an issuer, or what a test makes of it, on this machine."""

    issuer: Issuer
    url: str = ""
    asked: int = 0
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        if self.answer is not None:
            return await self.answer(request)
        return web.Response(body=self.issuer.path.read_bytes())


@pytest.fixture
async def key_server(tmp_path: Path) -> AsyncIterator[KeyServer]:
    served = KeyServer(Issuer(tmp_path / "served.json"))
    served.issuer.publish("ES256")
    app = web.Application()
    app.router.add_get("/keys", served.handle)
    async with TestServer(app, host="127.0.0.1") as server:
        served.url = str(server.make_url("/keys"))
        yield served
        served.gate.set()


def settings(**values: Any) -> Settings:
    return Settings(**({"amqp_url": "amqp://x", "mongodb_url": "mongodb://x"} | values))


def ring_at(server: KeyServer, *, unknown_key_seconds: float = 0) -> KeyRing:
    return KeyRing(settings(jwks_url=server.url), unknown_key_seconds=unknown_key_seconds)


@asynccontextmanager
async def followed(ring: KeyRing) -> AsyncIterator[None]:
    task = asyncio.create_task(ring.follow())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def claims() -> dict[str, Any]:
    return {"sub": "ann", "exp": time() + 60}


async def verified(verifier: TokenVerifier, token: str) -> str:
    await verifier.refresh_keys_for(token)
    return verifier.verify(token).subject


async def test_keys_are_changed_without_a_restart(key_server: KeyServer) -> None:
    issuer, ring = key_server.issuer, ring_at(key_server)
    verifier = TokenVerifier(settings(jwks_url=key_server.url), ring)
    old = issuer.token("ES256", claims())
    assert await verified(verifier, old) == "ann"
    issuer.publish("ES256", "EdDSA")
    new = issuer.token("EdDSA", claims())
    assert await verified(verifier, new) == "ann"
    assert await verified(verifier, old) == "ann"
    issuer.publish("EdDSA")
    await ring.learn()
    assert await verified(verifier, new) == "ann"
    with pytest.raises(UnknownKey):
        await verified(verifier, old)


async def test_nothing_is_decided_before_the_keys_are_known(key_server: KeyServer) -> None:
    async def away(_: web.Request) -> web.Response:
        return web.Response(status=503)

    key_server.answer = away
    ring = ring_at(key_server)
    verifier = TokenVerifier(settings(jwks_url=key_server.url), ring)
    token = key_server.issuer.token("ES256", claims())
    with pytest.raises(KeysUnavailable):
        await verified(verifier, token)
    with pytest.raises(KeysUnavailable):
        await ring.check()
    for forged in ("a.b.c", "eyJhbGciOiJub25lIn0.e30."):
        with pytest.raises(TokenError):
            await verified(verifier, forged)
    key_server.answer = None
    async with followed(ring):
        await eventually(lambda: _is_known(ring))
    await ring.check()
    assert await verified(verifier, token) == "ann"


async def _is_known(ring: KeyRing) -> bool:
    return ring.is_complete


async def test_the_last_good_set_holds_while_the_issuer_is_away_or_talks_nonsense(
    key_server: KeyServer, tmp_path: Path
) -> None:
    ring = ring_at(key_server)
    verifier = TokenVerifier(settings(jwks_url=key_server.url), ring)
    assert await verified(verifier, key_server.issuer.token("ES256", claims())) == "ann"
    elsewhere = key_server.url.replace("/keys", "/elsewhere")
    stranger = Issuer(tmp_path / "strange.json")
    stranger.publish("EdDSA")
    strange = stranger.path.read_bytes()
    answers = [
        web.Response(status=500, body=strange),
        web.Response(status=404, body=strange),
        web.Response(body=b"<html>"),
        web.Response(body=b'{"keys": []}'),
        web.Response(body=b" " * (MAX_JWKS_BYTES + 1)),
        web.Response(status=302, headers={"Location": elsewhere}, body=strange),
        web.Response(status=203, body=strange),
    ]
    for response in answers:

        async def answer(_: web.Request, response: web.Response = response) -> web.Response:
            return response

        key_server.answer = answer
        asked = key_server.asked
        await ring.learn()
        assert key_server.asked == asked + 1
        with pytest.raises(TokenError):
            verifier.verify(stranger.token("EdDSA", claims()))
        assert await verified(verifier, key_server.issuer.token("ES256", claims())) == "ann"


async def test_tokens_with_unknown_keys_cannot_make_us_ask_at_will(
    key_server: KeyServer, tmp_path: Path
) -> None:
    ring = ring_at(key_server, unknown_key_seconds=1000)
    verifier = TokenVerifier(settings(jwks_url=key_server.url), ring)
    stranger = Issuer(tmp_path / "strange.json")
    tokens = [stranger.token("EdDSA", claims(), key_id=f"k-{number}") for number in range(50)]

    async def refused(token: str) -> None:
        with pytest.raises(TokenError):
            await verified(verifier, token)

    await asyncio.gather(*(refused(token) for token in tokens))
    for token in tokens:
        await refused(token)
    assert key_server.asked == 1
    assert await verified(verifier, key_server.issuer.token("ES256", claims())) == "ann"


async def test_callers_who_come_together_wait_for_one_look(key_server: KeyServer) -> None:
    async def slow(_: web.Request) -> web.Response:
        await key_server.gate.wait()
        return web.Response(body=key_server.issuer.path.read_bytes())

    key_server.answer = slow
    verifier = TokenVerifier(settings(jwks_url=key_server.url), ring_at(key_server))
    token = key_server.issuer.token("ES256", claims())
    waiting = [asyncio.create_task(verified(verifier, token)) for _ in range(20)]
    await eventually(lambda: _was_asked(key_server))
    waiting[0].cancel()
    key_server.gate.set()
    assert await asyncio.gather(*waiting[1:]) == ["ann"] * 19
    assert key_server.asked == 1


async def _was_asked(server: KeyServer) -> bool:
    return server.asked > 0


async def test_a_set_that_never_ends_is_given_up(key_server: KeyServer) -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with suppress(ConnectionError):
            while not key_server.gate.is_set():
                await response.write(b" ")
                await asyncio.sleep(0.02)  # the slowness that is tested
        return response

    key_server.answer = drip
    started = monotonic()
    with pytest.raises(InvalidKeys, match="not read within"):
        await asyncio.to_thread(fetch, key_server.url, seconds=0.3)
    assert monotonic() - started < 10


async def test_an_issuer_that_does_not_answer_is_given_up(key_server: KeyServer) -> None:
    async def silent(_: web.Request) -> web.Response:
        await key_server.gate.wait()
        return web.Response()

    key_server.answer = silent
    with pytest.raises(OSError, match="timed out"):
        await asyncio.to_thread(fetch, key_server.url, seconds=0.3)


async def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    issuer = Issuer(tmp_path / "keys.json")
    issuer.publish("ES256")
    ring = KeyRing(settings(jwks_file=issuer.path), unknown_key_seconds=1000)
    verifier = TokenVerifier(settings(jwks_file=issuer.path), ring)
    old, new = issuer.token("ES256", claims()), issuer.token("EdDSA", claims())
    assert verifier.verify(old).subject == "ann"
    async with followed(ring):
        issuer.publish("EdDSA")

        async def taken() -> bool:
            with suppress(UnknownKey):
                return verifier.verify(new).subject == "ann"
            return False

        await eventually(taken)
    with pytest.raises(UnknownKey):
        verifier.verify(old)
    known = ring.keys
    other = KeyRing(settings(jwks_file=issuer.path), unknown_key_seconds=0)
    for broken in ("", "{", json.dumps({"keys": []})):
        issuer.path.write_text(broken)
        await other.learn()
        assert other.keys.keys == known.keys
    issuer.path.unlink()
    await other.learn()
    assert other.keys.keys == known.keys
