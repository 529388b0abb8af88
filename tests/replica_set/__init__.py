"""A replica set of MongoDB in trouble, played at the wire in front of the embedded database.

Three members on three ports stand in front of one database. They answer `hello` as the members of a set do,
elect a primary, and fail as the specifications of drivers and server say. `make test-replica-set` takes the
services through thousands of such faults.
"""
