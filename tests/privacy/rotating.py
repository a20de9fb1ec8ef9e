"""A process that starts under one key and ends under another."""

from temporalio import workflow


@workflow.defn
class Rotating:
    def __init__(self) -> None:
        self.words: list[str] = []

    @workflow.run
    async def run(self, first: str) -> list[str]:
        await workflow.wait_condition(lambda: len(self.words) == 2)
        return [first, *self.words]

    @workflow.signal
    def say(self, word: str) -> None:
        self.words.append(word)
