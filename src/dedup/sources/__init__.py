"""Read catalogues from files, folders and tables: classes with ``read() -> Catalogue``."""
