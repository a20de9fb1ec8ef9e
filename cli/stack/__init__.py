"""Real servers from wheels, started, watched and stopped as one."""
