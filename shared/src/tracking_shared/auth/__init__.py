"""Authentication and authorisation: tokens, keys, revocations.

May import `policy`, and `storage` for what is kept in the database.
"""
