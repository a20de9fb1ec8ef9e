"""What Temporal is given to keep: neither inputs nor the words of a failure are readable in it (RELIABILITY F4)."""

import base64
import os

from pydantic import SecretStr
from temporalio.api.failure.v1 import Failure
from temporalio.exceptions import ApplicationError

from infra.settings import Settings
from infra.temporal import data_converter

CANARY = "canary-22212345678"


def settings() -> Settings:
    key = SecretStr(base64.b64encode(os.urandom(32)).decode())
    return Settings(payload_keys={"k": key}, payload_key="k")


async def test_inputs_are_ciphertext() -> None:
    converter = data_converter(settings())
    sealed = await converter.encode([{"name": CANARY}])
    assert CANARY.encode() not in b"".join(each.SerializeToString() for each in sealed)
    assert await converter.decode(sealed) == [{"name": CANARY}]


async def test_the_words_of_a_failure_are_ciphertext() -> None:
    """Message, stack trace and details, of the error and of its cause."""
    converter, failure = data_converter(settings()), Failure()
    try:
        try:
            raise ValueError(f"no such account: {CANARY}")
        except ValueError as cause:
            raise ApplicationError(f"refused for {CANARY}", {"bvn": CANARY}, type="refused") from cause
    except ApplicationError as error:
        await converter.encode_failure(error, failure)
    assert CANARY.encode() not in failure.SerializeToString()
    again = await converter.decode_failure(failure)
    assert CANARY in str(again) and CANARY in str(again.__cause__)
