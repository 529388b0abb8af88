"""The horizon of a partition: nothing recorded before it can be committed there any more. Pure.

The owner records at no time before the horizon, and each of its commits moves the horizon on to the time of
what it writes, behind the fence. So a later commit, of whichever owner with whichever clock, cannot bring
anything earlier, and whoever reads the horizon first and then the data has read everything before it.
"""

from datetime import datetime, timedelta

DUE_AFTER = timedelta(milliseconds=500)
"""How far the horizon is left behind where there is nothing to write. With a look every second, it is at most
1.5 s and one commit behind; readers are promised 2 s."""


def recording_time(horizon: datetime, clock: datetime) -> datetime:
    """The time of what is decided at `clock`. While the clock is behind, as after a take-over by a process
    whose clock is slower, time stands still at the horizon.
    """
    return max(horizon, clock)


def horizon_after(horizon: datetime, time: datetime) -> datetime:
    """The horizon once something recorded at `time` is committed."""
    return max(horizon, time)


def is_due(horizon: datetime, time: datetime) -> bool:
    """Whether the horizon is to be moved on to `time` though nothing else is to be written."""
    return time - horizon >= DUE_AFTER
