"""A few banks and mobile operators, and what their accounts say.

What an account number begins with decides what becomes of it, so that any number of accounts can do the same:

    9001  a transfer fails                    9004  a transfer waits for a one-time password
    9002  a transfer is returned a day later  9009  the bank knows no such account
    9003  a transfer stays pending            else  a transfer succeeds

A day and the password's half hour are business time; what succeeds or fails does so a moment later in real time.
"""

from dataclasses import dataclass

FAILS, RETURNED, PENDING, PASSWORD, UNKNOWN = "9001", "9002", "9003", "9004", "9009"
_FIRST = ("ADA", "BOLA", "CHIDI", "DAYO", "EFUA", "FEMI", "GRACE", "HASSAN", "IFE", "JUMA")
_LAST = ("OKAFOR", "MENSAH", "WANJIKU", "DLAMINI", "BELLO", "OTIENO", "ADEYEMI", "NKOSI", "EZE", "KAMAU")


@dataclass(frozen=True)
class Bank:
    """One bank or operator, with the type of recipient its accounts are."""

    number: int
    code: str
    name: str
    currency: str
    country: str
    kind: str


BANKS = (
    Bank(1, "001", "Test Bank", "NGN", "Nigeria", "nuban"),
    Bank(2, "044", "Access Bank", "NGN", "Nigeria", "nuban"),
    Bank(3, "011", "First Bank of Nigeria", "NGN", "Nigeria", "nuban"),
    Bank(4, "058", "Guaranty Trust Bank", "NGN", "Nigeria", "nuban"),
    Bank(5, "030100", "Absa Bank Ghana", "GHS", "Ghana", "ghipss"),
    Bank(6, "MTN", "MTN", "GHS", "Ghana", "mobile_money"),
    Bank(7, "MPESA", "M-PESA", "KES", "Kenya", "mobile_money"),
    Bank(8, "632005", "Absa Bank Limited, South Africa", "ZAR", "South Africa", "basa"),
)


def find_bank(code: str, currency: str | None = None) -> Bank | None:
    """The bank with that code."""
    return next((bank for bank in BANKS if bank.code == code and currency in (None, bank.currency)), None)


def holder(bank: Bank, number: str) -> str | None:
    """The name an account is under, always the same; None where there is no such account."""
    length = range(10, 11) if bank.kind == "nuban" else range(6, 21)
    if not (number.isascii() and number.isdigit() and len(number) in length) or number.startswith(UNKNOWN):
        return None
    return f"{_FIRST[int(number[-1])]} {_LAST[int(number[-2])]}"
