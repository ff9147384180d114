"""A fleet of open batches of every age, created in one go. No input, no output.

Which end first is drawn so that a batch twice as old is half as likely to be the next: the hazard
of real batches falls about as one over their age.
"""

from __future__ import annotations

from random import Random

from watcher.simulator.chance import chance
from watcher.simulator.fate import DAY, Fate
from watcher.simulator.provider import SimulatedProvider

# Of recorded batches: from 60 to 160 s of finalizing per 1,000 requests.
FINALIZING = (0.060, 0.160)


def launch(
    provider: SimulatedProvider,
    count: int,
    now: int,
    *,
    ages: float = DAY,
    ends_a_minute: float = 0.0,
    seed: int = 0,
) -> None:
    """Create `count` open batches with ages spread evenly up to `ages` seconds of their own time.

    Their time runs at the provider's speed. `ends_a_minute`, of the clock's minutes, come to an
    end in steady succession; whichever reaches the end of its window first expires there.
    ValueError for ages beyond that window.
    """
    if not 0 <= ages <= DAY:
        raise ValueError("past its window of a day no batch is open")
    dice, speed = chance(seed, "fleet"), provider.speed
    of = [ages * (place + 0.5) / count for place in range(count)]
    # The smaller the number, the sooner its turn: as lots drawn with weights of 1/age fall.
    lots = [dice.expovariate(1.0) * age for age in of]
    turns = {place: turn for turn, place in enumerate(sorted(range(count), key=lots.__getitem__))}
    for place, age in enumerate(of):
        after = None
        if ends_a_minute > 0:
            left = (turns[place] + dice.random()) * 60 / ends_a_minute
            after = age + left * speed
        fate = _life(dice, after)
        # From the newest to the oldest, as a list shows them: each is appended to those before.
        provider.add(
            fate if speed == 1 else fate.faster(speed), created_at=now - round(age / speed * 1000)
        )


def _life(dice: Random, after: float | None) -> Fate:
    """A life that completes at the age `after`, or expires if its window ends before."""
    total = dice.randint(2, 5_000)
    if after is None or after > DAY:
        return Fate.expired_with_results(total, total // 2)
    failed = dice.choice((0, 0, 0, 0, 1, 2, total))
    finalizing = dice.uniform(*FINALIZING) * total
    return Fate.completed(total, min(failed, total), after=after, finalizing=finalizing)
