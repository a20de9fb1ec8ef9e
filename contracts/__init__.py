"""Messages: what is written into Temporal histories, outbox rows and answers, and must stay readable for years."""
