"""Provider simulators: their wire formats, faults and a durable book. Knows nothing of Chama."""
