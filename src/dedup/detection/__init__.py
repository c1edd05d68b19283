"""Detect duplicates: candidates, decisions, groups, and queries."""
