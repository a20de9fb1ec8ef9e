"""Controls that must not be believed: an edit that changes nothing, and one that only breaks the import."""

from typing import Final

from tests.controls.guard import Edit, Guard

_TESTS: Final = ("tests/domain/test_payment.py::test_terminal_is_terminal",)

GUARDS: Final = (
    Guard("unwatched", "", "", (Edit("domain/payment.py", "GIVE_UP_CHECKS = 14", "GIVE_UP_CHECKS = 13 + 1"),), _TESTS),
    Guard("broken", "", "", (Edit("domain/payment.py", "GIVE_UP_CHECKS = 14", "import nothing_of_that_name"),), _TESTS),
)
