"""What a command needs from the machine it runs on: processes, signals, progress, caches, memory pages."""
