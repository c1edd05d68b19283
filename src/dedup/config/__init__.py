"""Settings: limits, allowed parts, and parts built from plain values."""
