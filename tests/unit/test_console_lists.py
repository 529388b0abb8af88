"""What the board computes without a page: its sorted list, its counts, and long work in short parts."""

from random import Random
from typing import Any

from console_scripts import answer_of

BY_TIME = "(a, b) => a.at - b.at || (a.order_id < b.order_id ? -1 : a.order_id > b.order_id ? 1 : 0)"


def test_a_sorted_list_is_what_sorting_everything_gives_after_any_changes() -> None:
    chance = Random(11)
    changes: list[list[Any]] = [
        [f"o-{chance.randrange(3000)}", chance.choice((None, *range(40)))] for _ in range(12_000)
    ]
    script = f"""
      import {{ SortedEntries }} from "./sorted_entries.js";
      const compare = {BY_TIME};
      const list = new SortedEntries(compare);
      const kept = new Map();
      let differs = 0;
      given.forEach(([order_id, at], number) => {{
        if (at === null) {{
          list.delete(order_id);
          kept.delete(order_id);
        }} else {{
          list.set({{ order_id, at }});
          kept.set(order_id, {{ order_id, at }});
        }}
        if (number % 400) return;
        const wanted = [...kept.values()].sort(compare).map((order) => order.order_id);
        if (JSON.stringify(list.slice(0, Infinity)) !== JSON.stringify(wanted)) differs += 1;
        if (wanted.some((id, index) => list.indexOf(id) !== index)) differs += 1;
        if (list.size !== wanted.length || list.last?.order_id !== wanted.at(-1)) differs += 1;
        if (JSON.stringify(list.slice(200, 260)) !== JSON.stringify(wanted.slice(200, 260))) differs += 1;
      }});
      console.log(JSON.stringify([differs, list.size > 1000, list.indexOf("none"), list.has("none")]));
    """
    assert answer_of(script, changes) == [0, True, -1, False]


def test_a_change_in_a_list_of_100000_costs_a_few_comparisons() -> None:
    script = """
      import { SortedEntries } from "./sorted_entries.js";
      let compared = 0;
      const list = new SortedEntries((a, b) => {
        compared += 1;
        return a.at - b.at;
      });
      for (let at = 0; at < given; at += 1) list.set({ order_id: String(at), at });
      compared = 0;
      list.set({ order_id: "70000", at: 0.5 });
      console.log(JSON.stringify([compared < 100, list.slice(0, 3), list.size]));
    """
    assert answer_of(script, 100_000) == [True, ["0", "70000", "1"], 100_000]


def test_a_tally_counts_each_order_once_where_it_stands_now() -> None:
    script = """
      import { StatusTotals } from "./status_totals.js";
      const tally = new StatusTotals();
      for (const [id, status] of given) tally.set(id, status);
      console.log(JSON.stringify([tally.all, Object.fromEntries(tally.counts)]));
    """
    changes = [["a", "created"], ["b", "created"], ["a", "created"], ["a", "picked_up"], ["b", None]]
    assert answer_of(script, [*changes, ["c", None]]) == [1, {"created": 0, "picked_up": 1}]


def test_overdue_orders_are_a_part_of_the_open_ones() -> None:
    script = """
      import { OpenTotals } from "./status_totals.js";
      const totals = new OpenTotals();
      for (const [id, order] of given) totals.set(id, order);
      const told = ({ counts, all }) => [all, Object.fromEntries(counts)];
      console.log(JSON.stringify([told(totals.open), told(totals.overdue)]));
    """
    late = {"status": "created", "overdue": True}
    changes: list[list[Any]] = [["a", late], ["b", late], ["c", {"status": "created", "overdue": False}]]
    changes += [["a", {"status": "picked_up", "overdue": True}], ["b", None], ["c", late]]
    assert answer_of(script, changes) == [
        [2, {"created": 1, "picked_up": 1}],
        [2, {"created": 1, "picked_up": 1}],
    ]


def test_short_work_is_done_at_once_and_long_work_lets_others_in() -> None:
    script = """
      import { inSlices } from "./slices.js";
      const told = [];
      inSlices([][Symbol.iterator](), () => told.push("short"));
      told.push("returned");
      let fired = 0;
      const timer = setInterval(() => (fired += 1), 1);
      function* workUntilTimersFired() {
        while (fired < given) yield;
      }
      await new Promise((resolve) => inSlices(workUntilTimersFired(), resolve));
      clearInterval(timer);
      let steps = 0;
      function* endless() {
        for (;;) yield (steps += 1);
      }
      const giveUp = inSlices(endless(), () => told.push("done"));
      giveUp();
      const before = steps;
      await new Promise((resolve) => setTimeout(resolve, 20));
      told.push(steps - before);
      console.log(JSON.stringify(told));
    """
    assert answer_of(script, 3) == ["short", "returned", 0]


def test_the_first_of_many_are_those_that_sorting_all_of_them_puts_first() -> None:
    script = """
      import { firstOf } from "./status_totals.js";
      const compare = (a, b) => a - b;
      const found = [0, 1, 7, 2000].map((number) => firstOf(given, compare, number));
      const sorted = [...given].sort(compare);
      const differ = found.filter((first) => first.some((value, index) => value !== sorted[index]));
      console.log(JSON.stringify([differ.length, found.map((first) => first.length)]));
    """
    chance = Random(3)
    assert answer_of(script, [chance.random() for _ in range(1000)]) == [0, [0, 1, 7, 1000]]
