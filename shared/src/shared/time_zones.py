"""Whose clock it is: the time zones that may be named from outside."""

from functools import cache
from zoneinfo import available_timezones

_NO_PLACE = frozenset({"localtime", "posixrules", "Factory"})
"""What lies beside the zones in many systems: the clock of whoever answers, and stand-ins for one."""

_VARIANTS = ("posix/", "right/")


@cache
def time_zones() -> frozenset[str]:
    """The IANA names that are known here. Each means the same everywhere."""
    return frozenset(
        name for name in available_timezones() if name not in _NO_PLACE and not name.startswith(_VARIANTS)
    )
