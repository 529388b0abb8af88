"""The cost that authorisation adds to a request: the sender, the rate, revocation, and access to the order.

The floor is the same with a token that was not seen before, so that its signature must be checked. No request
travels: the figure is less than the noise of a network, even of this machine's.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from secrets import token_hex
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from fastapi import FastAPI, Request

from benchmarks.load import Result, Run, Site, WrongResult
from tracking_shared.auth.revocations import RevocationList, revoke_token
from tracking_shared.auth.tokens import TokenVerifier
from tracking_shared.contracts.access import may_read, reaches, sees_customer
from tracking_shared.http.access import authenticated, refuse_revoked
from tracking_shared.http.http_limits import http_limits_of
from tracking_shared.settings import MIN_SECRET_BYTES, Settings
from tracking_shared.storage.database import open_database

CALLERS = 1_000
"""With a token each, in turn: no two requests in a row have the same one."""

ROUNDS = 25
MERCHANTS = [f"merchant-{number}" for number in range(20)]

_PRIVATE_KEYS: dict[str, Callable[[], Any]] = {
    "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}

Authorise = Callable[[Request], Awaitable[None]]


async def known_tokens(site: Site) -> AsyncIterator[Run]:
    """Microseconds a request, of tokens that are known."""
    async with _parts(site) as (signer, revocations):

        async def run() -> Result:
            requests = [request_with(signer.token("HS256")) for _ in range(CALLERS)]
            authorise = authorisation(signer.verifier(), revocations)
            await _round(authorise, requests)  # now they are known
            return await _rounds(authorise, lambda: requests)

        yield run


async def unknown_tokens(site: Site) -> AsyncIterator[Run]:
    """The same of tokens that are not, by algorithm; `request_us` is that of HS256."""
    async with _parts(site) as (signer, revocations):

        async def run() -> Result:
            values: Result = {}
            for algorithm in ("HS256", *_PRIVATE_KEYS):
                authorise = authorisation(signer.verifier(), revocations)

                def fresh(algorithm: str = algorithm) -> Sequence[Request]:
                    return [request_with(signer.token(algorithm)) for _ in range(CALLERS // 10)]

                values[f"{algorithm}_us"] = (await _rounds(authorise, fresh))["request_us"]
            return values | {"request_us": values["HS256_us"], "requests": CALLERS / 10 * ROUNDS}

        yield run


@asynccontextmanager
async def _parts(site: Site) -> AsyncIterator[tuple["Signer", RevocationList]]:
    """Keys, and a list of revocations as an installation has it."""
    with TemporaryDirectory(prefix="tracking-keys-") as folder:
        async with open_database(site.mongodb_url, f"authorisation_{token_hex(4)}") as database:
            revocations = RevocationList(database)
            for number in range(100):
                await revoke_token(database, f"stolen-{number}")
            yield Signer(Path(folder)), revocations
            await database.client.drop_database(database.raw.name)


async def _rounds(authorise: Authorise, requests: Callable[[], Sequence[Request]]) -> Result:
    """The median round, less the cost of asking nothing."""
    found, nothing, number = [], [], 0
    for _ in range(ROUNDS):
        asked = requests()
        number += len(asked)
        nothing.append(await _round(_ask_nothing, asked))
        found.append(await _round(authorise, asked))
    return {"request_us": median(found) - median(nothing), "requests": float(number)}


async def _round(authorise: Authorise, requests: Sequence[Request]) -> float:
    """Microseconds a request. Each begins as one that nobody has looked at."""
    scopes = [request.scope for request in requests]
    started = perf_counter()
    for scope in scopes:
        await authorise(Request(scope))
    return (perf_counter() - started) * 1e6 / len(scopes)


async def _ask_nothing(_request: Request) -> None:
    pass


def authorisation(verifier: TokenVerifier, revocations: RevocationList) -> Authorise:
    """All that the policy is asked for one order, in the order of a request to query."""

    async def authorise(request: Request) -> None:
        principal = await authenticated(request, verifier)
        refuse_revoked(principal, await revocations.fresh())
        seen = reaches(principal.grant, "an-order", MERCHANTS[0]) and sees_customer(principal.grant)
        if not (may_read(principal) and seen):
            raise WrongResult("a good token was refused")

    return authorise


def request_with(token: str) -> Request:
    """A request as the application gets it, with the headers that browsers and proxies send."""
    headers = [
        (b"host", b"tracking.example"),
        (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64)"),
        (b"accept", b"application/json"),
        (b"x-forwarded-for", b"203.0.113.7"),
        (b"authorization", b"Bearer " + token.encode()),
    ]
    path = "/v1/orders/an-order"
    return Request({"type": "http", "method": "GET", "path": path, "headers": headers, "app": _application()})


@cache
def _application() -> FastAPI:
    app = FastAPI(openapi_url=None)
    app.state.limits = http_limits_of(_settings())  # the rate limit is part of the figure
    return app


def _settings(**values: Any) -> Settings:
    return Settings(amqp_url="amqp://unused", mongodb_url="mongodb://unused", **values)


class Signer:
    """A secret and a key of each family."""

    def __init__(self, folder: Path) -> None:
        self._secret = token_hex(MIN_SECRET_BYTES)
        self._keys = {name: make() for name, make in _PRIVATE_KEYS.items()}
        self._path = folder / "keys.json"
        self._path.write_text(json.dumps({"keys": [self._public(name) for name in self._keys]}))

    def verifier(self) -> TokenVerifier:
        """A new one, which knows no token yet."""
        return TokenVerifier(_settings(jwt_secret=self._secret, jwks_file=self._path))

    def token(self, algorithm: str) -> str:
        """One that was never made before."""
        claims = {
            "sub": f"dashboard-{token_hex(4)}",
            "scope": "orders:read",
            "merchants": MERCHANTS,
            "iat": time(),
            "exp": time() + 3600,
            "jti": token_hex(16),
        }
        key = self._keys.get(algorithm, self._secret)
        return jwt.encode(claims, key, algorithm, {"kid": algorithm} if key is not self._secret else None)

    def _public(self, algorithm: str) -> dict[str, Any]:
        public = jwt.get_algorithm_by_name(algorithm).to_jwk(self._keys[algorithm].public_key())
        return json.loads(public) | {"kid": algorithm, "use": "sig"}
