"""The page on access against the table that it is made of, and the table against the policy."""

import pytest
from docs.access_matrix import CELLS, MEANINGS, ROLES, ROUTES, Role, with_matrix
from pages import read

from tracking_shared.contracts.access import Grant, may_create_for, reaches, sees_customer


def test_the_matrix_is_generated_from_the_table() -> None:
    page = read("docs/access.md")
    assert page == with_matrix(page)


@pytest.mark.parametrize("kind", CELLS)
def test_a_kind_of_route_says_something_of_every_role(kind: str) -> None:
    cells = CELLS[kind]  # type: ignore[index] # one of its own
    assert cells.keys() == {role.name for role in ROLES}
    assert {outcome for cell in cells.values() for outcome in cell} <= MEANINGS.keys()
    assert kind in {route.kind for route in ROUTES}


@pytest.mark.parametrize("role", [role for role in ROLES if role.has_merchants or role.has_orders])
def test_the_policy_agrees_with_the_table(role: Role) -> None:
    merchants = frozenset({"own"} if role.has_merchants else set())
    orders = frozenset({"o"}) if role.has_orders else None
    grant = Grant(merchants=merchants, orders=orders)
    assert reaches(grant, "o", "own")
    assert not reaches(grant, "x", "foreign")
    assert may_create_for(grant, "o", "own") is bool(merchants)
    own, _ = CELLS["order"][role.name]
    assert own not in ("full", "bare") or (own == "full") is sees_customer(grant)
