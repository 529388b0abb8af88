"""The contents of the stream: events, filters, messages, and their AsyncAPI document. Pure.

May import `errors`.
"""
