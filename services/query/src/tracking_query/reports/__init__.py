"""Figures over many orders, computed when they are asked for.

May import `api`, and reads of `orders` and `log`.
"""
