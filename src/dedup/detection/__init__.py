"""Duplicates: candidates, decisions, groups, and queries."""
