"""The time of a run: ticks, and seconds that stand still while no process trains it."""

import time
from dataclasses import dataclass


@dataclass
class Clock:
    """Ticks, and the time that they took. Times are seconds of the run, which stands still between processes."""

    tick: int = 0
    start_nimg: int = 0
    start_sec: float = 0.0
    maintenance_sec: float = 0.0
    offset: float = 0.0  # of the run's seconds to this process's clock

    def now(self) -> float:
        return time.monotonic() + self.offset

    def set(self, now: float) -> None:
        self.offset = now - time.monotonic()

    def next_tick(self, cur_nimg: int, maintenance_began: float) -> None:
        self.tick, self.start_nimg, self.start_sec = self.tick + 1, cur_nimg, self.now()
        self.maintenance_sec = self.start_sec - maintenance_began

    def state(self) -> dict[str, float]:
        return {"tick": self.tick, "start_nimg": self.start_nimg, "start_sec": self.start_sec,
                "maintenance_sec": self.maintenance_sec, "now": self.now()}

    def restore(self, state: dict[str, float]) -> None:
        self.tick, self.start_nimg = int(state["tick"]), int(state["start_nimg"])
        self.start_sec, self.maintenance_sec = state["start_sec"], state["maintenance_sec"]
        self.set(state["now"])
