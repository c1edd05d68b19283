"""The commands: Hydra, run folders, exit codes, and help for wrong settings."""
