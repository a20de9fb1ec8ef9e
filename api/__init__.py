"""HTTP: authenticate, validate, commit the command, read projections."""
