"""Rules about callers, made of settings: claims of tokens, limits, allowed origins. Pure.

May import `contracts`.
"""
