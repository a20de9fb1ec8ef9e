"""The schema, in order."""
