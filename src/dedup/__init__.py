"""Find duplicate products in a catalogue by their pictures."""

__version__ = "0.1.0"
