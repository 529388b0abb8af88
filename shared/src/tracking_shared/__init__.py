"""What the services share: contracts, infrastructure code, and the rules that several of them apply (workflow,
access, limits).
"""
