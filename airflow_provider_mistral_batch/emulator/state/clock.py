"""Job time: the wall clock's time, faster or slower by the setting ``speed``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

from pydantic import Field

#: The longest time that can be set, in seconds: thirty years, which clocks and databases still take.
MAX_SECONDS = 1e9

#: A time that can be set, in seconds.
Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)]


@dataclass(frozen=True)
class JobClock:
    """
    A clock that is stored in the state directory, so that job time passes while the emulator is down.

    :param wall: Epoch seconds at which the clock was set.
    :param job: Job time in seconds that it was set to.
    :param speed: Seconds of job time that pass in one second.
    """

    wall: float
    job: float
    speed: float

    def now(self, wall: float) -> float:
        """
        Job time in seconds.

        :param wall: Epoch seconds of now.
        """
        return self.job + (wall - self.wall) * self.speed

    def with_speed(self, speed: float, wall: float) -> JobClock:
        """
        The same clock, at another speed from now on. The time that has passed stays as it is.

        :param speed: Seconds of job time that pass in one second.
        :param wall: Epoch seconds of now.
        """
        return JobClock(wall=wall, job=self.now(wall), speed=speed)

    def seconds_until(self, job: float, wall: float) -> float:
        """
        Seconds of the wall clock until this clock shows a time; 0 if it has passed.

        :param job: The job time in seconds.
        :param wall: Epoch seconds of now.
        """
        return max(0.0, (job - self.now(wall)) / self.speed)

    def as_dict(self) -> dict[str, float]:
        """The arguments that make this clock again."""
        return asdict(self)
