"""What the console computes without a page: addresses of views, their names, repeated scans in one row."""

from typing import Any
from urllib.parse import parse_qs

import pytest
from console_scripts import answer_of

ADDRESSES = [
    "",
    "status=created&merchant_id=a&merchant_id=b&source_id=driver-7",
    "active=any&customer_ref=%2B49+30&columns=merchant%2Cage&sort=updated_at&q=zo%C3%AB",
    "overdue=true&due_from=2026-03-01T08%3A00%3A00.000Z&sort=due_at",
    "active=false&overdue=false&source_id=auth0%7C5f7c&columns=none",
    "created_from=2026-03-01T08%3A00%3A00.000Z",
]


def test_the_address_of_a_view_is_read_as_it_was_written() -> None:
    script = """
      import { readFilter, writeFilter } from "./filters.js";
      const again = (text) => writeFilter(readFilter(new URLSearchParams(text), ["created"])).toString();
      console.log(JSON.stringify(given.map(again)));
    """
    assert answer_of(script, ADDRESSES) == ADDRESSES


def test_columns_that_are_not_there_are_named_and_left_out() -> None:
    script = """
      import { faultsOf, readFilter } from "./filters.js";
      const parameters = new URLSearchParams("columns=" + given);
      console.log(JSON.stringify([readFilter(parameters, []).columns, faultsOf(parameters, []).length]));
    """
    assert answer_of(script, "age,weight") == [["age"], 1]
    assert answer_of(script, "weight") == [None, 1]
    assert answer_of(script, "age,due,created,source,customer,merchant") == [None, 0]


def test_the_reporter_of_a_filter_is_compared_exactly_and_searched_by_its_beginning() -> None:
    script = """
      import { apiParameters, matchesScope, readFilter } from "./filters.js";
      const filter = readFilter(new URLSearchParams("active=any&q=zoe&source_id=driver-1"), []);
      const by = (id) => ({
        ...{ order_id: "o-1", merchant_id: "m", customer: { name: "Zoe", contact_ref: "c" } },
        source: { type: "driver", id },
      });
      const matches = given.map((id) => matchesScope(filter, by(id)));
      console.log(JSON.stringify([apiParameters(filter).get("q"), ...matches]));
    """
    assert answer_of(script, ["driver-1", "driver-17"]) == ["zoe driver-1", True, False]


DUE = "2026-03-01T08:00:00.000Z"


@pytest.mark.parametrize(
    ("filtered", "order", "matches"),
    [
        ("", {"overdue": True}, True),
        ("overdue=true", {"overdue": True}, True),
        ("overdue=true", {"overdue": False}, False),
        ("overdue=false", {}, True),  # of an earlier release
        ("due_to=2026-03-01T08:00:00Z", {"due_at": DUE}, False),
        ("due_from=2026-03-01T08:00:00Z", {"due_at": DUE}, True),
        ("due_from=2026-03-01T08:00:00Z", {"due_at": None}, False),
        ("sort=due_at", {"due_at": None}, False),
        ("sort=-due_at", {"due_at": DUE}, True),
    ],
)
def test_orders_are_filtered_by_their_due_times(
    filtered: str, order: dict[str, Any], *, matches: bool
) -> None:
    script = """
      import { matchesScope, matchesState, readFilter } from "./filters.js";
      const filter = readFilter(new URLSearchParams(given.filtered), []);
      const order = { status: "created", active: true, merchant_id: "m", ...given.order };
      console.log(JSON.stringify(matchesScope(filter, order) && matchesState(filter, order)));
    """
    assert answer_of(script, {"filtered": filtered, "order": order}) is matches


MIDNIGHT = "2026-03-01T00:00:00.000Z"
BEFORE, AFTER = "2026-02-28T23:59:59.999Z", DUE
FINAL = {"status": "delivered", "active": False}


@pytest.mark.parametrize(
    ("order", "is_listed", "matches"),
    [
        (FINAL | {"closed_at": AFTER}, False, True),
        (FINAL | {"closed_at": BEFORE, "updated_at": AFTER}, False, False),
        (FINAL | {"closed_at": BEFORE, "updated_at": AFTER}, True, False),  # corrected since it was listed
        (FINAL | {"closed_at": None, "updated_at": AFTER}, False, False),  # it had a checkpoint
        (FINAL | {"closed_at": None, "updated_at": AFTER}, True, True),
        (FINAL | {"updated_at": AFTER}, True, True),
        ({"status": "created", "active": True, "updated_at": AFTER}, True, False),
    ],
)
def test_orders_are_filtered_by_when_they_closed(
    order: dict[str, Any], *, is_listed: bool, matches: bool
) -> None:
    script = """
      import { matchesScope, matchesState, readFilter } from "./filters.js";
      const filter = readFilter(new URLSearchParams(`closed_from=${given.midnight}`), []);
      const order = { merchant_id: "m", ...given.order };
      const isInScope = matchesScope(filter, order, { isListed: given.isListed });
      console.log(JSON.stringify(isInScope && matchesState(filter, order)));
    """
    given = {"midnight": MIDNIGHT, "order": order, "isListed": is_listed}
    assert answer_of(script, given) is matches


def test_a_filter_by_closing_times_means_closed_orders_unless_it_says_otherwise() -> None:
    script = """
      import { readFilter, withoutClosing, writeFilter } from "./filters.js";
      const read = given.map((text) => readFilter(new URLSearchParams(text), []));
      const written = read.map((filter) => writeFilter(filter).toString());
      console.log(JSON.stringify([read.map(({ active }) => active), written, withoutClosing(read[0]).times]));
    """
    given = [
        f"closed_from={MIDNIGHT}",
        f"active=false&closed_to={MIDNIGHT}",
        f"active=true&due_to={MIDNIGHT}",
    ]
    actives, written, times = answer_of(script, given)
    assert actives == [None, False, True]
    assert [parse_qs(text) for text in written] == [
        {"closed_from": [MIDNIGHT]},
        {"active": ["false"], "closed_to": [MIDNIGHT]},
        {"due_to": [MIDNIGHT]},
    ]
    assert times == {}


def test_what_an_overdue_flag_cannot_be_is_named_and_left_out() -> None:
    script = """
      import { faultsOf, readFilter } from "./filters.js";
      const parameters = new URLSearchParams("overdue=" + given);
      console.log(JSON.stringify([readFilter(parameters, []).overdue, faultsOf(parameters, []).length]));
    """
    assert answer_of(script, "constructor") == [None, 1]
    assert answer_of(script, "false") == [False, 0]


def test_views_belong_to_one_person_and_are_bounded() -> None:
    script = """
      import { SavedViews } from "./saved_views.js";
      const kept = new Map();
      const storage = {
        getItem: (key) => kept.get(key) ?? null,
        setItem: (key, text) => kept.set(key, text),
      };
      const [ada, grace] = ["ada", "grace"].map((sub) => new SavedViews(storage, () => ({ sub })));
      const told = (act) => {
        try {
          act();
        } catch (error) {
          return error.message;
        }
        return "";
      };
      for (let number = 0; number < 50; number += 1) ada.save("view " + number, "q=" + number);
      const faults = [
        told(() => ada.save("one more", "")),
        told(() => ada.rename("view 1", "view 2")),
        told(() => ada.save("view 3", "q=other")),
        told(() => ada.rename("view 4", "another")),
      ];
      ada.delete("view 5");
      const names = ada.all.map(({ name }) => name);
      const changed = ada.all.find(({ name }) => name === "view 3").address;
      kept.set([...kept.keys()][0], given);
      const left = [grace.all.length, ada.all.length];
      console.log(JSON.stringify([faults, names.length, names[0], changed, ...left]));
    """
    faults, *rest = answer_of(script, '{"not": "a list"}')
    assert faults[0].startswith("No more than 50")
    assert "already" in faults[1]
    assert faults[2:] == ["", ""]
    assert rest == [49, "another", "q=other", 0, 0]


def steps(*sources: str, status: str = "in_transit") -> list[dict[str, Any]]:
    """Entries of a timeline, newest first; a source of "" is a refused attempt."""
    return [
        {"item": {"version": version, "status": status, "source": {"type": "driver", "id": source}}}
        if source
        else {"update": {}}
        for version, source in zip(range(len(sources), 0, -1), sources, strict=True)
    ]


def grouped(entries: list[dict[str, Any]], opened: list[int]) -> list[Any]:
    script = """
      import { withGroups } from "./timeline_groups.js";
      const told = ({ count, key, isOpen }) => [count, key, isOpen];
      const short = ({ group, item }) => (group ? told(group) : (item?.version ?? null));
      console.log(JSON.stringify(withGroups(given.entries, new Set(given.opened)).map(short)));
    """
    answer: list[Any] = answer_of(script, {"entries": entries, "opened": opened})
    return answer


def test_repeated_scans_are_one_row_that_opens() -> None:
    entries = steps("b", "a", "a", "a", "", "a", "a")
    assert grouped(entries, []) == [7, [3, 4, False], None, 2, 1]
    assert grouped(entries, [4]) == [7, [3, 4, True], 6, 5, 4, None, 2, 1]
    assert grouped(steps("a", "a", "a", status="created") + entries, []) == [
        [3, 1, False],
        7,
        [3, 4, False],
        None,
        2,
        1,
    ]
    assert grouped([], []) == []


def test_checkpoints_and_corrections_are_no_repeated_scans() -> None:
    entries = steps("a", "a", "a", "a", "a", "a", "a")
    entries[2]["item"]["kind"] = "delivery_attempted"
    assert grouped(entries, []) == [7, 6, 5, [4, 1, False]]
    entries[3]["item"]["reason"] = "wrong parcel"
    assert grouped(entries, []) == [7, 6, 5, 4, [3, 1, False]]
    for entry in entries[4:]:
        entry["item"]["type"] = "order.overdue"
    assert grouped(entries, []) == [7, 6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    ("history", "taken_back"),
    [
        (["created", "picked_up"], []),
        (["created", "picked_up", "in_transit", "delivered", "!in_transit"], [4]),
        (["created", "in_transit", "in_transit", "delivered", "?delivered", "!in_transit", "delivered"], [4]),
        (["created", "picked_up", "delivered", "!created"], [2, 3]),
        (["created", "cancelled", "!delivered"], [2]),
        (["created", "cancelled", "!delivered", "!cancelled"], [2, 3]),
        (["created", "!delivered"], []),
        (["created", "!delivered", "!created"], [2]),
        (["created", "overdue", "picked_up", "!created"], [3]),
    ],
)
def test_corrections_take_back_steps_as_the_reports_count(history: list[str], taken_back: list[int]) -> None:
    """`!` is a correction, `?` a checkpoint; `overdue` keeps the status."""
    items = []
    for version, told in enumerate(history, 1):
        item: dict[str, Any] = {"version": version, "status": told.lstrip("!?")}
        if told == "overdue":
            item |= {"type": "order.overdue", "status": "created"}
        item |= {"!": {"reason": "wrong"}, "?": {"kind": "note"}}.get(told[0], {})
        items.append(item)
    script = """
      import { takenBackIn } from "./timeline.js";
      const found = takenBackIn(given.reverse(), ["delivered", "cancelled"]);
      console.log(JSON.stringify([...found].sort((a, b) => a - b)));
    """
    assert answer_of(script, items) == taken_back
