"""The image store: images fetched and decoded once, kept in checked shards."""
