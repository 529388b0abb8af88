"""The HTTP plumbing of every service: connections, limits, headers, the caller of a request,
bodies, answers with orders, outcomes and problems, health.

May import all of this package but `api_docs` and `serving`.
"""
