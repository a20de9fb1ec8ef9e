"""Rules of community finance: pure functions and values. No I/O, no clock, no SQL, no Temporal."""
