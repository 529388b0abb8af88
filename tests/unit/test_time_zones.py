"""A time zone that is named from outside is a place of the IANA's list, not the clock of whoever answers."""

from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from tracking.cli.report import NoReport, time_of_option
from tracking_query.reports.report_answers import RangeParameters
from tracking_shared.contracts.timestamps import time_zones

NO_PLACES = [
    "localtime",
    "posixrules",
    "Factory",
    "posix/UTC",
    "right/Europe/Berlin",
    "/etc/localtime",
    "../UTC",
]


@pytest.mark.parametrize("name", NO_PLACES)
def test_the_clock_of_the_server_and_its_variants_are_no_time_zones(name: str) -> None:
    assert name not in time_zones()
    with pytest.raises(ValidationError, match="must be an IANA time zone"):
        RangeParameters(time_zone=name, merchant_id=[])
    with pytest.raises(NoReport, match="not an IANA time zone"):
        time_of_option("--from", "2026-01-31", name)


def test_every_zone_of_the_list_can_be_asked_for() -> None:
    assert {"UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5"} <= time_zones()
    assert all(ZoneInfo(name) for name in time_zones())
