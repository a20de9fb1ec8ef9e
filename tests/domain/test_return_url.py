"""Where a payer may be sent back to."""

import pytest

from domain.errors import InvalidRequest
from domain.return_url import check_return_url

ALLOWED = ["https://app.demo.test/done", "http://localhost:3000"]


@pytest.mark.parametrize(
    "url",
    [
        "https://app.demo.test/done",
        "https://app.demo.test/done/",
        "https://app.demo.test/done/thanks?ref=1",
        "https://app.demo.test/done?x=1",
        "http://localhost:3000/anything",
    ],
)
def test_listed_places_pass(url: str) -> None:
    check_return_url(url, ALLOWED)


@pytest.mark.parametrize(
    "url",
    [
        "https://app.demo.test",
        "https://app.demo.test/donexyz",
        "https://app.demo.test/done/../admin",
        "https://app.demo.test@evil.test/done",
        "https://user:pw@app.demo.test/done",
        "https://app.demo.test.evil.test/done",
        "http://app.demo.test/done",
        "https://app.demo.test:8443/done",
        "http://localhost/anything",
        "http://localhost:3001/anything",
        "javascript:alert(1)",
        "//app.demo.test/done",
        "https://app.demo.test\\@evil.test/done",
        "https://app.demo.test/done#frag",
        "https://[::1/done",
        "https://app.demo.test:notaport/done",
    ],
)
def test_everything_else_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_return_url(url, ALLOWED)
    assert (refused.value.code, refused.value.field) == ("return_url_not_allowed", "return_url")
