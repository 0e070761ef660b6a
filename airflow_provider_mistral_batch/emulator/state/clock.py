"""The time in which jobs live: the wall clock's, stretched or compressed by the speed setting."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class JobClock:
    """A clock that showed ``job`` when the wall clock showed ``wall``, and runs ``speed`` times as fast.

    It is stored in the state directory, so that time goes on while the emulator is down.
    """

    wall: float
    job: float
    speed: float

    def now(self, wall: float) -> float:
        """Job time in seconds when the wall clock shows ``wall``."""
        return self.job + (wall - self.wall) * self.speed

    def with_speed(self, speed: float, wall: float) -> JobClock:
        """The same clock at another speed from now on: what has passed stays as it is."""
        return JobClock(wall=wall, job=self.now(wall), speed=speed)

    def seconds_until(self, job: float, wall: float) -> float:
        """Wall-clock seconds until the clock shows ``job``; 0 if it already did."""
        return max(0.0, (job - self.now(wall)) / self.speed)

    def as_dict(self) -> dict[str, float]:
        """What :class:`JobClock` can be made of again."""
        return asdict(self)
