"""Second looks at candidate pairs; each is a file."""
