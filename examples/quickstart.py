"""Find the duplicates in a drawn catalogue, and write the report.

python examples/quickstart.py
"""

import dedup
from dedup.sources.sample import SampleSource


def main(n_products: int = 60) -> None:
    """Draw a catalogue with known copies, search it, and print the groups."""
    drawn = SampleSource(n_products=n_products)
    drawn.read()

    result = dedup.find_duplicates(drawn.place / "products.csv", precision=0.95)
    print(result.groups)
    print(result.pairs[["product_id_a", "product_id_b", "score", "evidence"]])
    result.save("out")
    print("report:", result.to_html("report.html"))


if __name__ == "__main__":
    main()
