"""Authentication: tokens, keys, revocations. Which orders a caller may access is in `contracts.access`.

May import `policy`, and `storage` for what is kept in the database.
"""
