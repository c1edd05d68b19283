"""How a result reaches people: ``write(groups, pairs, index, folder) -> Path`` in each class."""
