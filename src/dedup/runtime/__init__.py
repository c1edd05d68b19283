"""Files, processes, threads, signals and progress: nothing of the domain."""
