"""The bounds of metadata: of one update, and of an order after all of them."""

MAX_METADATA_BYTES = 4096
"""As JSON."""
MAX_METADATA_KEYS = 32
MAX_METADATA_LEVELS = 4
