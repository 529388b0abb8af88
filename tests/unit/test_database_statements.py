"""The reviewed list of statements, and how a statement becomes its shape."""

from bson import Int64

from statements.reviewed import Reviewed, not_reviewed, read_list
from statements.statement_shapes import shapes_of


def test_every_statement_names_rules_that_exist_and_every_rule_is_used() -> None:
    reviewed = read_list()
    named = {rule for rules in reviewed.statements.values() for rule in rules}
    assert all(reviewed.statements.values())
    assert named == reviewed.rules.keys()
    assert list(reviewed.statements) == sorted(reviewed.statements)


def test_a_shape_holds_fields_operators_and_options_and_no_values() -> None:
    find = {
        "find": "orders",
        "filter": {"_id": {"$in": ["o-1"]}, "$or": [{"active": True}, {"status": {"$gt": "x"}}]},
        "sort": {"created_at": -1},
        "limit": 5,
        "readConcern": {"level": "majority"},
        "lsid": {},
        "$db": "tracking",
    }
    assert list(shapes_of(find)) == [
        "find orders: filter $or",
        "find orders: filter _id $in",
        "find orders: filter active",
        "find orders: filter status $gt",
        "find orders: option limit",
        "find orders: outside of transactions",
        "find orders: read concern majority",
        "find orders: sort created_at -1",
    ]


def test_a_write_in_a_transaction_tells_its_change() -> None:
    update = {
        "update": "partitions",
        "updates": [{"q": {"_id": 1}, "u": {"$inc": {"seq": 1}}, "upsert": False, "multi": False}],
        "ordered": True,
        "txnNumber": Int64(1),
        "autocommit": False,
    }
    assert list(shapes_of(update)) == [
        "update partitions: filter _id",
        "update partitions: in a transaction",
        "update partitions: option ordered",
        "update partitions: update $inc",
    ]


def test_stages_and_the_operators_of_their_expressions_are_told() -> None:
    pipeline = [
        {"$match": {"created_at": {"$gte": 1}}},
        {"$match": {"$expr": {"$eq": ["$a", 1]}}},
        {"$group": {"_id": None, "n": {"$sum": 1}}},
    ]
    assert list(shapes_of({"aggregate": "orders", "pipeline": pipeline})) == [
        "aggregate orders: expression $eq",
        "aggregate orders: expression $sum",
        "aggregate orders: first $match created_at $gte",
        "aggregate orders: later $match $expr",
        "aggregate orders: outside of transactions",
        "aggregate orders: stage $group",
        "aggregate orders: stage $match",
    ]


def test_what_has_no_line_or_no_rule_is_not_reviewed() -> None:
    reviewed = Reviewed({"ping": "…"}, {"ping: a": ["ping"], "ping: b": []})
    assert not_reviewed({"ping: a", "ping: b", "ping: c"}, reviewed) == ["ping: b", "ping: c"]
