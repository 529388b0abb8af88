"""HTTP: routes, the bodies that they accept, and what they answer.

May import `submission`.
"""
