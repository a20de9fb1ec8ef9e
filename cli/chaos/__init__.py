"""Instruments that break the running system on purpose. Nothing in production imports them."""
