"""The default workflow of the services: a row for each status, and the kinds of checkpoints."""

INITIAL = "created"

TRANSITIONS: dict[str, tuple[str, ...]] = {
    "created": ("picked_up", "cancelled"),
    "picked_up": ("in_transit", "cancelled"),
    "in_transit": ("in_transit", "delivered", "cancelled"),
    "delivered": (),
    "cancelled": (),
}

CHECKPOINTS = ("note", "delivery_attempted", "delayed", "eta_changed", "proof_added")
