"""Where a catalogue comes from: each module offers one class with ``read() -> Catalogue``."""
