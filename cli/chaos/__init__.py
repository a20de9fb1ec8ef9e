"""The chaos run: seeded kills, provider faults and broken connections under a planned workload, then the audit."""
