#!/usr/bin/env python3
"""Stands in for mongosh in the stand-in's container, whatever it is given to run: does what
`deploy/mongodb/ready.js` and `users.js` do, with the same files and variables.
"""

import json
import os
import sys
from pathlib import Path

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

USERS_MADE = Path("/tmp/users-made")  # noqa: S108 - as in ready.js
ROLES = Path("/etc/tracking/roles.json")


def make_users(client: MongoClient) -> None:
    """Of each service, with its role."""
    name = os.environ["TRACKING_DATABASE"]
    database = client[name]
    for user, collections in json.loads(ROLES.read_text()).items():
        password = os.environ[f"{user.upper().replace('-', '_')}_PASSWORD"]
        privileges = [
            {"resource": {"db": name, "collection": collection}, "actions": actions}
            for collection, actions in collections.items()
        ]
        make(database, "Role", user, privileges=privileges, roles=[])
        make(database, "User", user, pwd=password, roles=[{"role": user, "db": name}])


def make(database, kind: str, name: str, **what: object) -> None:
    """Creates it, or brings it up to date."""
    try:
        database.command(f"create{kind}", name, **what)
    except OperationFailure as error:
        if "already exists" not in str(error):
            raise
        database.command(f"update{kind}", name, **what)


def main() -> int:
    """0 if the database is ready."""
    root, password = (
        os.environ.get("MONGO_INITDB_ROOT_USERNAME"),
        os.environ.get("MONGO_INITDB_ROOT_PASSWORD"),
    )
    options = {"username": root, "password": password} if root else {}
    with MongoClient("127.0.0.1", directConnection=True, serverSelectionTimeoutMS=3000, **options) as client:
        try:
            client.admin.command("ping")
            if root and not USERS_MADE.exists():
                make_users(client)
                USERS_MADE.touch()
        except PyMongoError as error:
            print(error)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
