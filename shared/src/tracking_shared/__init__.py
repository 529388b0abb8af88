"""Contracts and plumbing that every service uses. No business rule lives here."""
