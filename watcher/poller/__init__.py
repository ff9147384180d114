"""One look at all that is due: claims, asks the provider, lets the lifecycle judge, records.

A look under way is a task; a waiting batch is a row. An error of one batch is that batch's, a 429
is the account's, a refusal is the account's only when its own probe is refused too.
"""

from watcher.poller.allowance import Allowance
from watcher.poller.lateness import quantiles
from watcher.poller.looking import Looking
from watcher.poller.looks import AccountPoller
from watcher.poller.recording import PUT_OFF

__all__ = ["PUT_OFF", "AccountPoller", "Allowance", "Looking", "quantiles"]
