"""Storage: tables and every SQL statement. No rule, no provider, no Temporal."""
