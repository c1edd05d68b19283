"""Families of different products that look alike, drawn for ``scripts/look_alikes.py``."""
