"""Write the samples that ship with the package from the packages that they are taken from.

co2.csv: NOAA's weekly record of CO2 at Mauna Loa (public domain) as statsmodels packages it (BSD-3-Clause), averaged
by month, gaps filled on a straight line. Needs statsmodels, which Clew does not.
"""

from pathlib import Path

from statsmodels.datasets import co2

SAMPLES = Path(__file__).resolve().parents[1] / "src" / "clew" / "data" / "samples"


def main() -> None:
    monthly = co2.load_pandas().data["co2"].resample("MS").mean().interpolate()
    rows = [f"{month:%Y-%m},{value:.2f}" for month, value in monthly.items()]
    (SAMPLES / "co2.csv").write_text("\n".join(["month,co2", *rows]) + "\n")


if __name__ == "__main__":
    main()
