"""Weights that come with the package."""

from pathlib import Path

FOLDER = Path(__file__).parent
