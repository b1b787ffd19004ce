"""The energy pipeline in Python: functions with decorators, in place of the document and the processes of examples/energy.

    pip install pipeorch                    # or ./bindings/python of a checkout
    python3 energy.py [CSV]                 # in this process, by the engine that a cluster has
    PO_CONTROLLERS=127.0.0.1:7201 python3 energy.py --cluster [CSV]

Five steps, each a task: a call of one hands its result to the next. The steps' work is that of ../energy/*.py, and so is the
form of their inputs: the workers of ../energy/workers-*.json can run this pipeline (--cluster), and the tasks here can serve
../energy/pipeline.json.

CSV: another file in place of ../energy/data/iowa-electricity.csv. Spoil a row, and the run fails at once, with its place.
"""

import argparse
import pathlib
import sys
from typing import Any

from pipeorch import Final, RunFailed, draw, pipeline, task

ENERGY = pathlib.Path(__file__).resolve().parent.parent / "energy"
sys.path.insert(0, str(ENERGY))

import clean as clean_step  # noqa: E402
import heating as heating_step  # noqa: E402
import ingest as ingest_step  # noqa: E402
import report as report_step  # noqa: E402
import trend as trend_step  # noqa: E402
from quickstart import print_report  # noqa: E402
from step import DataError  # noqa: E402

ELECTRICITY = str(ENERGY / "data" / "iowa-electricity.csv")
WEATHER = str(ENERGY / "data" / "seattle-weather-hourly-normals.csv")


def done(module: Any, params: Any, config: Any, input: Any) -> dict:
    """A step's work. Wrong data stay wrong: then another attempt is useless. Any other exception is retried."""
    try:
        return module.work(params, config, input)
    except DataError as error:
        raise Final(str(error)) from None


# **_ takes what a worker is also told when it serves the document: the run's id, the names of pipeline and step.


@task("ingest:csv", retries=2, timeout=20)
def ingest(params: dict, config: dict, **_: Any) -> dict:
    """Two files become durable input."""
    return done(ingest_step, params, config, None)


@task("clean:energy", retries=2, timeout=20)
def clean(input: dict, config: dict, **_: Any) -> dict:
    """Lines of text become checked numbers."""
    return done(clean_step, None, config, input)


@task("trend:least_squares", retries=2, timeout=60)
def trend(input: dict, config: dict, **_: Any) -> dict:
    """Generation by source, and where a straight line leads."""
    return done(trend_step, None, config, input)


@task("heating:degree_days", retries=2, timeout=20)
def heating(input: dict, config: dict, **_: Any) -> dict:
    """How much heating the hours ask for."""
    return done(heating_step, None, config, input)


@task("report:energy", retries=2, timeout=20)
def report(input: dict, **_: Any) -> dict:
    """What the run found."""
    return done(report_step, None, None, input)


@pipeline
def energy(electricity: str = ELECTRICITY, weather: str = WEATHER):
    """Electricity generation trend by source, and heating demand from hourly temperature"""
    columns = {"electricity": ["year", "source", "net_generation"], "weather": ["date", "pressure", "temperature", "wind"]}
    lines = ingest(params={"electricity": electricity, "weather": weather}, config={"columns": columns})
    numbers = clean(
        lines,
        config={
            "sources": ["Fossil Fuels", "Nuclear Energy", "Renewables"],
            "generation_range": [0, 1000000],
            "temperature_range": [-60, 60],
        },
    )
    trends = trend(numbers, config={"forecast_year": 2018, "renewables": ["Renewables"], "resamples": 20000, "seed": 2018})
    return report(heating(trends, config={"base_celsius": 18}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cluster", action="store_true", help="run it where PO_CONTROLLERS says, on the workers that are there")
    parser.add_argument("csv", nargs="?", default=ELECTRICITY)
    arguments = parser.parse_args()
    try:
        found = energy.run(str(pathlib.Path(arguments.csv).resolve()), local=not arguments.cluster)
    except RunFailed as failed:
        sys.exit(f"energy: {failed}")
    print(draw(energy))
    print_report(found)


if __name__ == "__main__":
    main()
