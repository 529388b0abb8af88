"""Content negotiation: chooses the representation that a caller prefers (RFC 9110, section 12.5). Pure."""

from collections.abc import Sequence

MAX_RANGES = 32
"""Ranges of one header that are looked at; what comes behind them is not asked for."""


def preferred_type(accept: str | None, offered: Sequence[str]) -> str | None:
    """The media type of `offered` that an `Accept` header prefers; of equal ones the first offered.

    None: the caller accepts none of them. Without a header, everything is as welcome.
    """
    if accept is None or not accept.strip():
        return offered[0]
    ranges = _weighted(accept)
    weights = [_type_weight(ranges, media_type) for media_type in offered]
    best = max(weights)
    return offered[weights.index(best)] if best > 0 else None


def prefers_gzip(accept_encoding: str | None) -> bool:
    """True if an `Accept-Encoding` header asks for gzip rather than for no encoding."""
    weights = dict(_weighted(accept_encoding or ""))
    others = weights.get("*", 0.0)
    gzip = weights.get("gzip", weights.get("x-gzip", others))
    return gzip > 0 and gzip >= weights.get("identity", 0.0)


def _weighted(header: str) -> list[tuple[str, float]]:
    return [_range(text) for text in header.lower().split(",")[:MAX_RANGES] if text.strip()]


def _range(text: str) -> tuple[str, float]:
    name, *parameters = (part.strip() for part in text.split(";"))
    weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
    return name, _weight(weight)


def _weight(text: str) -> float:
    digits = text.strip()
    # By hand: float() would also take inf, nan and 1e9.
    if len(digits) > 5 or not digits.replace(".", "", 1).isdecimal() or not digits.isascii():
        return 0.0
    return min(float(digits), 1.0)


def _type_weight(ranges: Sequence[tuple[str, float]], media_type: str) -> float:
    # The most specific range decides, whatever its weight: "text/csv;q=0, */*" refuses CSV.
    weights = dict(ranges)
    for name in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
        if name in weights:
            return weights[name]
    return 0.0
