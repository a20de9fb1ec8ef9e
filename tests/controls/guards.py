"""Every guard the product has, one control each. `make controls` switches them off one by one; see `tests/controls/run.py`."""

from typing import Final

from tests.controls import delivery, edge, money, sharing
from tests.controls.guard import Guard

GUARDS: Final[tuple[Guard, ...]] = (
    *edge.GUARDS,
    *money.LEDGER,
    *money.INVESTING,
    *sharing.ELIGIBILITY,
    *sharing.DISTRIBUTIONS,
    *sharing.PAYOUTS,
    *sharing.RELEASES,
    *sharing.CHUNKS,
    *sharing.PAGES,
    *delivery.PROVIDERS,
    *delivery.TEMPORAL,
)
