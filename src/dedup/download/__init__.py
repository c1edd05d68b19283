"""Fetch images over HTTP: the only package that uses the network."""
