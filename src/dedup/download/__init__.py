"""Fetch images over HTTP, and read object storage: the only room that uses the network."""
