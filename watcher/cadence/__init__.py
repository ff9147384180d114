"""When to look next and how to look at many, when to try again, how long to leave alone.

Pure: takes what is known and `now`, returns times. Jitter is a hash of the key and the attempt,
so a run can be repeated exactly.
"""

from watcher.cadence.cohorts import COHORT_SPAN, LARGEST_COHORT, sibling_look, siblings, waited_long
from watcher.cadence.jittering import jitter
from watcher.cadence.looks import (
    LONGEST_WAIT,
    LOOKS_AFTER_THE_END,
    LOST_WATCHED_FOR,
    NEVER_SEEN_WAITS,
    RESULTS_LOOK,
    Pace,
    next_look,
)
from watcher.cadence.pauses import FIRST_PAUSE, LONGEST_PAUSE, account_pause, next_try
from watcher.cadence.plan import Around, Listing, Page, Place, Single, plan, worth

__all__ = [
    "COHORT_SPAN",
    "FIRST_PAUSE",
    "LARGEST_COHORT",
    "LONGEST_PAUSE",
    "LONGEST_WAIT",
    "LOOKS_AFTER_THE_END",
    "LOST_WATCHED_FOR",
    "NEVER_SEEN_WAITS",
    "RESULTS_LOOK",
    "Around",
    "Listing",
    "Pace",
    "Page",
    "Place",
    "Single",
    "account_pause",
    "jitter",
    "next_look",
    "next_try",
    "plan",
    "sibling_look",
    "siblings",
    "waited_long",
    "worth",
]
