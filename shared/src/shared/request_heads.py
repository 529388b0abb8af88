"""The head of a request as RFC 9112 wants it, for the servers of all services. Pure."""

import re
from collections.abc import Sequence

_HOST = re.compile(r"(?:\[[0-9A-Fa-fv:.]+\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::\d*)?")
"""`uri-host [ ":" port ]` (RFC 9110, 7.2; RFC 3986, 3.2.2). It may be empty."""

_ABSOLUTE_FORM = re.compile(r"https?://[^/?#]*", re.IGNORECASE)


def host_fault(http_version: str, hosts: Sequence[str]) -> str | None:
    """What is wrong with the `Host` fields of a request, or None (RFC 9112, 3.2).

    `http_version` as in `1.1`; with 1.0 a request needs no `Host`.
    """
    if len(hosts) > 1:
        return "Send one Host field."
    if not hosts:
        return "HTTP/1.1 needs a Host field." if http_version == "1.1" else None
    return None if _HOST.fullmatch(hosts[0].strip()) else "The Host field is not a host."


def origin_form(target: str) -> str:
    """The path and query of a request's target, which a server must take in the absolute form, too
    (RFC 9112, 3.2.2). What has another form is returned as it is.
    """
    found = _ABSOLUTE_FORM.match(target)
    if found is None:
        return target
    rest = target[found.end() :]
    return rest if rest.startswith("/") else f"/{rest}"
