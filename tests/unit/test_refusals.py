"""What the database refuses: of a document, or of everybody."""

import pytest
from pymongo.errors import BulkWriteError

from tracking_order_state.adapters.store import DOCUMENT_FAULTS, refusals
from tracking_order_state.errors import Unwritable
from tracking_shared.storage.database import DatabaseUnavailable, driver_errors


def refusal(*codes: int, labels: tuple[str, ...] = ()) -> BulkWriteError:
    """What the driver raises when the database refuses writes with these codes."""
    faults = [{"index": 0, "code": code, "errmsg": "of Ada Lovelace"} for code in codes]
    return BulkWriteError({"writeErrors": faults, "writeConcernErrors": [], "errorLabels": list(labels)})


@pytest.mark.parametrize("code", DOCUMENT_FAULTS)
def test_what_lies_in_a_document_is_told_by_its_code_alone(code: int) -> None:
    with pytest.raises(Unwritable) as told, refusals():
        raise refusal(code)
    assert str(told.value) == str(code)


@pytest.mark.parametrize(
    "codes",
    [(), (112,), (14031,), (8000,), (371,), (13,), (50,), (11000, 14031)],
    ids=["none", "conflict", "disk full", "quota", "blocked", "not allowed", "too slow", "disk full, too"],
)
def test_what_passes_is_left_to_be_tried_again(codes: tuple[int, ...]) -> None:
    error = refusal(*codes)
    with pytest.raises(BulkWriteError) as raised, refusals():
        raise error
    assert raised.value is error


def test_a_transaction_that_may_be_run_again_is() -> None:
    error = refusal(11000, labels=("TransientTransactionError",))
    with pytest.raises(BulkWriteError), refusals():
        raise error


def test_a_database_that_is_full_is_away_and_nothing_of_what_was_to_be_written_is_told() -> None:
    with pytest.raises(DatabaseUnavailable) as told, driver_errors(), refusals():
        raise refusal(14031)
    assert str(told.value) == "writes were refused with [14031]"
    assert told.value.__cause__ is None
