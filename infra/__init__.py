"""Plumbing: settings, the database pool, the Temporal client, crypto, telemetry. Knows no table and no rule."""
