"""The problems that the fake server answers with. Pure."""

from typing import Any

_TITLES = {
    "malformed-json": (400, "The body is not valid JSON"),
    "invalid-cursor": (400, "The cursor is not one of ours"),
    "unauthenticated": (401, "A valid token is required"),
    "forbidden": (403, "The token does not allow this"),
    "order-not-found": (404, "There is no such order"),
    "update-not-found": (404, "There is no such update"),
    "order-exists": (409, "The order exists already"),
    "invalid-transition": (409, "The order cannot go to this status from where it stands"),
    "version-conflict": (409, "The order is not at the expected version"),
    "validation-failed": (422, "The request breaks a rule"),
    "idempotency-key-reused": (422, "The idempotency key was used for another request"),
    "too-many-requests": (429, "Too many requests"),
    "internal-error": (500, "Something went wrong on our side"),
    "not-in-the-fake": (501, "The fake server does not have this"),
    "broker-unavailable": (503, "The message broker cannot take the update now"),
}


class Refusal(Exception):
    """A request or an operation is refused with this problem."""

    def __init__(self, slug: str, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.slug = slug
        self.status, title = _TITLES[slug]
        self._document = {
            "type": f"/problems/{slug}",
            "title": title,
            "status": self.status,
            "detail": detail,
        }
        self._members = members
        self.headers: dict[str, str] = {}

    def document(self, instance: str, **members: Any) -> dict[str, Any]:
        """The problem document. `instance` is the path of the request."""
        return {**self._document, "instance": instance, "trace_id": "0" * 32, **self._members, **members}


def invalid(pointer: str, message: str) -> Refusal:
    """The refusal of a request that breaks one rule."""
    detail = f"{pointer} {message}" if pointer else message
    return Refusal("validation-failed", detail, errors=[{"pointer": pointer, "message": message}])
