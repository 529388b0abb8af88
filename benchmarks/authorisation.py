"""The cost that authorisation adds to a request: the sender, the rate, revocation, and access to the order.

The floor is the same with a token that was not seen before, so that its signature must be checked. No request
travels: the figure is less than the noise of a network, even of this machine's.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from secrets import token_hex
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from fastapi import FastAPI, Request

from benchmarks.load import BenchmarkFailed, Result, Run, Site
from tracking_shared.auth.revocations import RevocationList, revoke_token
from tracking_shared.auth.tokens import TokenVerifier
from tracking_shared.contracts.access import may_read, reaches, sees_customer
from tracking_shared.http.callers import authenticated, refuse_revoked
from tracking_shared.http.http_limits import http_limits_of
from tracking_shared.settings import MIN_SECRET_BYTES, Settings
from tracking_shared.storage.database import open_database

CALLERS = 1_000
"""With a token each, in turn: no two requests in a row have the same one."""

ROUNDS = 25
MERCHANTS = [f"merchant-{number}" for number in range(20)]

_KEYS: dict[str, Callable[[], Any]] = {
    "HS256": lambda: token_hex(MIN_SECRET_BYTES),
    "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}

Authorise = Callable[[Request], Awaitable[None]]


async def tokens(site: Site, algorithms: Sequence[str], *, are_known: bool) -> AsyncIterator[Run]:
    """Microseconds a request, by the algorithm of its token; `request_us` is that of HS256."""
    number = CALLERS if are_known else CALLERS // 10
    keys = {name: make() for name, make in _KEYS.items()}
    with TemporaryDirectory(prefix="tracking-keys-") as folder:
        settings = _settings(Path(folder) / "keys.json", keys)
        app = FastAPI(openapi_url=None)
        app.state.limits = http_limits_of(settings)  # the rate limit is part of the figure

        def new_requests(algorithm: str) -> list[Request]:
            return [_request(app, _token(algorithm, keys[algorithm])) for _ in range(number)]

        async with open_database(site.mongodb_url, f"authorisation_{token_hex(4)}") as database:
            revocations = RevocationList(database)
            for stolen in range(100):  # as an installation may have them
                await revoke_token(database, f"stolen-{stolen}")

            async def run() -> Result:
                values: Result = {}
                for algorithm in algorithms:
                    authorise = partial(_authorise, TokenVerifier(settings), revocations)
                    fresh = partial(new_requests, algorithm)
                    if are_known:
                        known = fresh()
                        await _round(authorise, known)
                        fresh = partial(list, known)
                    values[f"{algorithm}_us"] = await _rounds(authorise, fresh)
                return values | {"request_us": values["HS256_us"], "requests": number * ROUNDS}

            yield run
            await database.client.drop_database(database.raw.name)


def _settings(path: Path, keys: dict[str, Any]) -> Settings:
    public = [
        json.loads(jwt.get_algorithm_by_name(name).to_jwk(key.public_key())) | {"kid": name, "use": "sig"}
        for name, key in keys.items()
        if name != "HS256"
    ]
    path.write_text(json.dumps({"keys": public}))
    return Settings(
        amqp_url="amqp://unused", mongodb_url="mongodb://unused", jwt_secret=keys["HS256"], jwks_file=path
    )


async def _authorise(verifier: TokenVerifier, revocations: RevocationList, request: Request) -> None:
    """All that the policy is asked for one order, in the order of a request to query."""
    principal = await authenticated(request, verifier)
    refuse_revoked(principal, await revocations.fresh())
    seen = reaches(principal.grant, "an-order", MERCHANTS[0]) and sees_customer(principal.grant)
    if not (may_read(principal) and seen):
        raise BenchmarkFailed("a good token was refused")


async def _rounds(authorise: Authorise, requests: Callable[[], Sequence[Request]]) -> float:
    """Microseconds of the median round, less the cost of asking nothing."""

    async def ask_nothing(_request: Request) -> None:
        pass

    rounds = [requests() for _ in range(ROUNDS)]
    costs = [(await _round(ask_nothing, asked), await _round(authorise, asked)) for asked in rounds]
    return median(found for _, found in costs) - median(nothing for nothing, _ in costs)


async def _round(authorise: Authorise, requests: Sequence[Request]) -> float:
    """Microseconds a request. Each begins as one that nobody has looked at."""
    scopes = [request.scope for request in requests]
    started = perf_counter()
    for scope in scopes:
        await authorise(Request(scope))
    return (perf_counter() - started) * 1e6 / len(scopes)


def _request(app: FastAPI, token: str) -> Request:
    """A request as the application gets it, with the headers that browsers and proxies send."""
    headers = {
        "host": "tracking.example",
        "user-agent": "Mozilla/5.0 (X11; Linux x86_64)",
        "accept": "application/json",
        "x-forwarded-for": "203.0.113.7",
        "authorization": f"Bearer {token}",
    }
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    path = "/v1/orders/an-order"
    return Request({"type": "http", "method": "GET", "path": path, "headers": raw, "app": app})


def _token(algorithm: str, key: Any) -> str:
    claims = {
        "sub": f"dashboard-{token_hex(4)}",
        "scope": "orders:read",
        "merchants": MERCHANTS,
        "iat": time(),
        "exp": time() + 3600,
        "jti": token_hex(16),
    }
    return jwt.encode(claims, key, algorithm, None if algorithm == "HS256" else {"kid": algorithm})
