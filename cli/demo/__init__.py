"""`make demo`: every story driven through the public API on the real stack, the books checked, the result shown."""
