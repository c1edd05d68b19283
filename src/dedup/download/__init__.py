"""Addresses on the web to bytes: the only room that uses the network."""
