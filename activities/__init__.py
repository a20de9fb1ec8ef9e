"""The outside world: one side effect per activity, idempotent by key."""
