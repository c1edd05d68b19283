"""Write a result for people: each report is a class with ``write(findings, index, folder)``."""
