"""Provider adapters behind small Protocols."""
