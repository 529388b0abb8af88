"""Faults that a test asks the fake server for, to see what its own program makes of them."""

from tracking_client.fake.order_book import Decision
from tracking_client.fake.problems import Refusal

_SLUGS = {429: "too-many-requests", 500: "internal-error", 503: "broker-unavailable"}


class Faults:
    """Counters of requests and updates that go wrong. Reads are not affected."""

    def __init__(self) -> None:
        self._refused = 0
        self._status = 503
        self._retry_after_seconds = 0
        self._lost = 0
        self._accepted = 0
        self._reads = 0

    def refuse_next(self, requests: int = 1, *, status: int = 503, retry_after_seconds: int = 0) -> None:
        """The next requests that send updates are answered with this status (429, 500 or 503), without an
        effect.
        """
        if status not in _SLUGS:
            raise ValueError(f"there are {', '.join(map(str, _SLUGS))}")
        self._refused, self._status, self._retry_after_seconds = requests, status, retry_after_seconds

    def lose_next_answers(self, requests: int = 1) -> None:
        """The next requests that send updates take effect, and their connection is cut without an answer."""
        self._lost = requests

    def accept_next(self, updates: int = 1, *, reads: int = 1) -> None:
        """The next updates are answered with `accepted` (202). Their outcome can be read after `reads`
        requests for it were answered with 404.
        """
        self._accepted, self._reads = updates, reads

    def refuse(self) -> None:
        """Raises `Refusal` if this request is to be refused."""
        if self._refused:
            self._refused -= 1
            refusal = Refusal(_SLUGS[self._status], "The test asked for it.")
            if self._status != 500:
                refusal.headers["Retry-After"] = str(self._retry_after_seconds)
            raise refusal

    def loses_answer(self) -> bool:
        """True if the answer to this request is to be lost."""
        if not self._lost:
            return False
        self._lost -= 1
        return True

    def accepts(self, decision: Decision) -> bool:
        """True if this update is to be answered with `accepted`."""
        if not self._accepted:
            return False
        self._accepted -= 1
        decision.reads_until_known = self._reads
        return True
