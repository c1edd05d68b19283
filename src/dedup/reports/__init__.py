"""How a result reaches people: ``write(findings, index, folder) -> Path`` in each class."""
