"""The errors of all packages: their common base, and those that several folders raise."""


class TrackingError(Exception):
    """The base of every error of this project."""


class SettingsError(TrackingError):
    """The configuration misses something or is unsafe: the service says so in one line and does not start."""
