"""Time: order, waiting, deciding, compensating."""
