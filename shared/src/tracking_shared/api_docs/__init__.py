"""The published descriptions: OpenAPI, AsyncAPI, and the pages that show them.

May import `contracts` and `http`.
"""
