"""When the list of the board gets the keyboard that was asked for before it had rows."""

import pytest
from console_scripts import answer_of

SCRIPT = """
    globalThis.document = Object.assign(new EventTarget(), { activeElement: "button" });
    const { ListFocus } = await import("./list_focus.js");
    let isReady = given.isReady;
    let times = 0;
    const focus = new ListFocus({ isReady: () => isReady, give: () => (times += 1) });
    focus.ask();
    focus.settle();
    const before = times;
    if (given.event) document.dispatchEvent(new Event(given.event));
    if (given.active) document.activeElement = { matches: () => given.active === "field" };
    isReady = true;
    focus.settle();
    focus.settle();
    console.log(JSON.stringify([before, times]));
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"isReady": True}, [1, 1]),
        ({"isReady": False}, [0, 1]),
        ({"isReady": False, "event": "keydown"}, [0, 0]),
        ({"isReady": False, "event": "pointerdown"}, [0, 0]),
        ({"isReady": False, "active": "field"}, [0, 0]),  # a screen reader goes there without a key
        ({"isReady": False, "active": "button"}, [0, 1]),  # a menu that closes returns the focus
    ],
)
def test_the_list_gets_the_keyboard_once_unless_the_user_went_elsewhere(
    given: dict[str, object], expected: list[int]
) -> None:
    assert answer_of(SCRIPT, given) == expected
