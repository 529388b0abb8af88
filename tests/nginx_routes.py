"""Reads the proxy's configuration as far as it goes: which service gets a request by its method and path."""

import re
from pathlib import Path

CONFIGURATION = Path(__file__).parents[1] / "deploy/nginx/nginx.conf"


class Routes:
    """The locations of the server that callers reach."""

    def __init__(self, text: str) -> None:
        server = text[text.index("listen 8080") :]
        self._exact: dict[str, str] = {}
        self._prefixes: dict[str, str] = {}
        for exact, path, body in re.findall(r"location (= )?(/\S*) \{([^}]*)\}", server):
            variable = re.search(r"proxy_pass http://\$(\w+);", body)
            named = dict(re.findall(r"set \$(\w+) (\S+);", body))
            target = named.get(variable[1], f"${variable[1]}") if variable else ""
            (self._exact if exact else self._prefixes)[path] = target
        block = re.search(r"map \$request_method \$orders \{([^}]*)\}", text)
        assert block
        self._by_method: dict[str, str] = dict(re.findall(r"(\w+) (\S+);", block[1]))

    def target(self, method: str, path: str) -> str | None:
        """Name and port of the service, or None if the proxy answers itself.

        An exact path wins, then the longest.
        """
        found = self._exact.get(path)
        if found is None:
            found = self._prefixes[max(filter(path.startswith, self._prefixes), key=len)]
        if found == "$orders":
            return self._by_method.get(method, self._by_method["default"])
        return found or None
