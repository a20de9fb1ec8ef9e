"""Countries and categories of a campaign's business."""

from domain.business import Category, countries


def test_the_countries_are_those_of_iso_3166() -> None:
    assert len(countries()) == 249
    assert {"NG", "GH", "KE", "ZA", "GB", "US", "AQ", "AX", "TW", "PS"} <= countries()
    assert not countries() & {"EU", "UN", "XK", "ZZ", "UK", "XX", "ng", ""}


def test_a_category_is_its_own_name() -> None:
    assert all(each.value == each.name.lower() for each in Category)
