"""Who may invest."""

import pytest

from domain.eligibility import check_eligible, may_invest
from domain.errors import Conflict


@pytest.mark.parametrize(
    ("level", "country", "min_level", "countries", "code"),
    [
        (0, None, 0, None, None),
        (2, None, 2, None, None),
        (1, "NG", 2, ["NG"], "kyc_required"),
        (3, "KE", 2, ["GH", "NG"], "country_not_allowed"),
        (3, None, 0, ["GH"], "country_not_allowed"),
        (3, "GH", 3, ["GH", "NG"], None),
        (0, "KE", 1, ["GH"], "kyc_required"),
    ],
)
def test_both_are_asked_for(
    level: int, country: str | None, min_level: int, countries: list[str] | None, code: str | None
) -> None:
    asked = {"kyc_level": level, "country": country, "min_kyc_level": min_level, "countries": countries}
    assert may_invest(**asked) is (code is None)  # type: ignore[arg-type]
    if code is None:
        check_eligible(**asked)  # type: ignore[arg-type]
    else:
        with pytest.raises(Conflict) as refused:
            check_eligible(**asked)  # type: ignore[arg-type]
        assert refused.value.code == code
