"""The code that services share: contracts, infrastructure, and rules that several of them apply (workflow,
access, limits).
"""
