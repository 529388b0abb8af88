"""Rules about callers, made of settings: claims of tokens, limits, allowed origins. Pure.
Which orders a caller may access is in `contracts.access`.

May import `contracts`.
"""
