"""What is taken for a card number, and what is not (RELIABILITY F8)."""

import pytest

from domain.cards import holds_card_number

# Published test numbers of Visa (16, 13), Mastercard (both ranges), American Express, Discover, Diners Club (14), JCB,
# UnionPay and Verve.
CARDS = [
    "4242424242424242", "4222222222222", "5555555555554444", "2223003122003222", "378282246310005", "6011111111111117",
    "30569309025904", "3566002020360505", "6200000000000005", "5060666666666666666",
]  # fmt: skip


def grouped(digits: str, separator: str) -> str:
    return separator.join(digits[at : at + 4] for at in range(0, len(digits), 4))


@pytest.mark.parametrize("card", CARDS)
def test_card_numbers_are_found_however_they_are_written(card: str) -> None:
    for separator in ("", " ", "-", " - ", ".", "\u00a0", "\u2013", "\u200b", "\n"):
        for around in ("{}", "my card is {}, thanks", "{} 12/30 123", "a{}b", "1 {} 2", "0803 {}"):
            text = around.format(grouped(card, separator))
            assert holds_card_number(text), repr(text)
    assert holds_card_number("".join(chr(0x660 + int(digit)) for digit in card)), "Arabic-Indic digits"


@pytest.mark.parametrize("card", CARDS)
def test_one_wrong_digit_is_no_card_number(card: str) -> None:
    for at in range(len(card)):
        wrong = card[:at] + str((int(card[at]) + 1) % 10) + card[at + 1 :]
        assert not holds_card_number(wrong), wrong


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Mama Kemi Bakery, 12 Allen Avenue",
        "+2348031234567",
        "08031234567",
        "22212345678",  # a BVN
        "0123456789",  # a NUBAN account number
        "DE89370400440532013000",
        "GB29 NWBK 6016 1331 9268 19",
        "2026-11-21T12:06:50.123456+00:00",
        "1,000,000.00 of 2,500,000.00",
        "inv_0f3a91c2d4e5b6a7f8091a2b3c4d5e6f",
        "0000000000000000",
        "4" * 16,
        "42424242424242424242",  # too long: no part of a longer number is one
    ],
)
def test_what_people_write_is_no_card_number(text: str) -> None:
    assert not holds_card_number(text)


RANDOM = [
    "ben_4884427761625f14bbb3b811757e87a9",
    "usr_4242424242424242abcdefabcdefabcd",
    "sk_live_cafe4242424242424242cafe4242424242424242",  # Paystack's keys: forty hexadecimal digits
    "ABCDEFAB4222222222222ABCDEFABCDE",
    "42424242-4242-4242-8abc-def012345678",
]


@pytest.mark.parametrize("token", RANDOM)
def test_a_card_number_in_a_random_token_is_chance(token: str) -> None:
    """One in two thousand has one, and whoever owns it must still be able to name it."""
    for around in ("{}", "see {}, please", "https://chama.test/v1/x/{}/y", "{} {}"):
        assert not holds_card_number(around.format(token, token))
    assert holds_card_number(f"{token} 4242 4242 4242 4242")


@pytest.mark.parametrize(
    "text",
    [
        "usr_4242424242424242abcdefabcdefabc",  # one digit short of 128 bits
        "usr_4242424242424242abcdefabcdefabcg",
        "xcafe4242424242424242cafe4242424242424242",
        "4242424242424242feb2027",
        "4242424242424242D25122011234567890123F",  # what the magnetic stripe holds (ISO/IEC 7813, track 2)
        ";4242424242424242d2512201123456789012",
        "42424242-4242-4242-cbcd-def012345678",  # neither version nor variant of a UUID
    ],
)
def test_what_only_looks_like_a_random_token_is_read(text: str) -> None:
    assert holds_card_number(text)


def test_texts_of_nothing_but_digits_are_read_too() -> None:
    for text in ("9 " * 10_000, "4" * 20_000, "4444 " * 4_000):
        assert not holds_card_number(text)
        assert holds_card_number(text + ", 4242 4242 4242 4242")


@pytest.mark.parametrize("text", ["50 ", "505 ", "505050 ", "\u0665\u0660 "])
def test_a_large_text_of_little_groups_hides_no_card(text: str) -> None:
    large = text * (256 * 1024 // len(text.encode()))
    assert not holds_card_number(large)
    assert holds_card_number(large + ", 4242 4242 4242 4242")
