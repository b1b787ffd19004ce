"""The steps of examples/energy, each as the process that a worker starts: task on stdin, result on stdout, exit code."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ENERGY = pathlib.Path(__file__).resolve().parents[2] / "examples" / "energy"
PIPELINE = json.loads((ENERGY / "pipeline.json").read_text())
CONFIG = {step["name"]: step.get("config") for step in PIPELINE["steps"]}
ELECTRICITY = ENERGY / "data" / "iowa-electricity.csv"
WEATHER = ENERGY / "data" / "seattle-weather-hourly-normals.csv"


def run_step(name, data=None, params=None, config=None):
    task = {"pipeline": "energy", "run_id": 1, "step": name, "params": params,
            "config": CONFIG[name] if config is None else config, "input": data}
    return subprocess.run([sys.executable, f"{name}.py"], cwd=ENERGY, input=json.dumps(task), capture_output=True,
                          text=True, timeout=60, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})


class Steps(unittest.TestCase):
    def done(self, name, data=None, params=None, config=None):
        ran = run_step(name, data, params, config)
        self.assertEqual(ran.returncode, 0, f"{name}: {ran.stderr}")
        self.assertEqual(ran.stderr, "")
        self.assertLessEqual(len(ran.stdout.encode()), 1024 * 1024)
        return json.loads(ran.stdout)

    def refused(self, expected, name, data=None, params=None, config=None):
        """The step ends with EX_DATAERR, says nothing on stdout and `expected` on stderr."""
        ran = run_step(name, data, params, config)
        self.assertEqual((ran.returncode, ran.stdout), (os.EX_DATAERR, ""))
        self.assertIn(expected, ran.stderr)
        self.assertEqual(ran.stderr.count("\n"), 1, "one line, not a traceback")

    def ingest(self, electricity=ELECTRICITY):
        return self.done("ingest", params={"electricity": str(electricity), "weather": str(WEATHER)})

    def spoilt(self, line, text):
        """What ingest returns for the electricity file with one line (counted from 1) replaced."""
        lines = ELECTRICITY.read_bytes().split(b"\n")
        lines[line - 1] = text
        with tempfile.NamedTemporaryFile(suffix="-spoilt.csv") as file:
            file.write(b"\n".join(lines))
            file.flush()
            return self.ingest(file.name)


class Chain(Steps):
    def test_whole_chain_gives_the_report(self):
        data, params = None, {"electricity": str(ELECTRICITY), "weather": str(WEATHER)}
        name, steps = PIPELINE["start_node"], {step["name"]: step for step in PIPELINE["steps"]}
        while name:
            data = self.done(name, data, params)
            name = steps[name].get("next_node")
        self.assertEqual(data["renewables_share_2017"], 0.3884)
        self.assertEqual(data["forecast_2018"],
                         {"Fossil Fuels": 33381.471, "Nuclear Energy": 5084.404, "Renewables": 22669.213})
        for source, (low, high) in data["forecast_2018_range"].items():
            self.assertTrue(low < data["forecast_2018"][source] < high, source)
        degree_days = data["heating_degree_days"]
        self.assertEqual(degree_days["total"], 2632.671)
        self.assertEqual(degree_days["by_month"]["2010-12"], 411.05)
        self.assertEqual(len(degree_days["by_month"]), 12)
        self.assertEqual(data["missing_hours"], 1)

    def test_repeated_attempt_gives_the_same_bytes(self):
        data = self.done("clean", self.ingest())
        config = {**CONFIG["trend"], "resamples": 200}
        self.assertEqual(run_step("trend", data, config=config).stdout, run_step("trend", data, config=config).stdout)


class Ingest(Steps):
    def test_missing_file(self):
        self.refused("/nowhere.csv: no such file (params: 'electricity')", "ingest",
                     params={"electricity": "/nowhere.csv", "weather": str(WEATHER)})

    def test_wrong_header(self):
        self.refused("row 1 is 'date,pressure,temperature,wind'; expected the columns 'year,source,net_generation'",
                     "ingest", params={"electricity": str(WEATHER), "weather": str(WEATHER)})

    def test_missing_parameter(self):
        self.refused("params: no 'weather'; expected a text", "ingest", params={"electricity": str(ELECTRICITY)})

    def test_task_that_is_no_json(self):
        ran = subprocess.run([sys.executable, "ingest.py"], cwd=ENERGY, input="{", capture_output=True, text=True)
        self.assertEqual(ran.returncode, os.EX_DATAERR)
        self.assertIn("the task is not JSON", ran.stderr)


class Clean(Steps):
    def refused_row(self, line, text, expected):
        data = self.spoilt(line, text)
        self.refused(f"{data['electricity']['file']}: row {line}, column {expected}", "clean", data)

    def test_value_that_is_no_number(self):
        self.refused_row(10, b"2009-01-01,Fossil Fuels,38x20",
                         "3 (net_generation): '38x20'; expected a number from 0 to 1000000")

    def test_values_that_only_python_calls_numbers(self):
        for text in ("nan", "inf", "1_000", " 7", ""):
            with self.subTest(text):
                self.refused_row(10, b"2009-01-01,Fossil Fuels," + text.encode(), f"3 (net_generation): {text!r}")

    def test_value_out_of_range(self):
        self.refused_row(51, b"2016-01-01,Renewables,-1", "3 (net_generation): '-1'")

    def test_unknown_source(self):
        self.refused_row(2, b"2001-01-01,Fosil Fuels,1", "2 (source): 'Fosil Fuels'; expected one of Fossil Fuels")

    def test_date_that_is_none(self):
        self.refused_row(3, b"2002-13-01,Fossil Fuels,1", "1 (year): '2002-13-01'")
        self.refused_row(3, b"2002-02-01,Fossil Fuels,1", "1 (year): '2002-02-01'")

    def test_same_year_twice(self):
        self.refused_row(3, b"2001-01-01,Fossil Fuels,1", "1 (year): '2001-01-01'; expected no second value")

    def test_too_few_and_too_many_columns(self):
        self.refused_row(3, b"2002-01-01,Fossil Fuels", "3 (net_generation): the row ends before it")
        self.refused_row(3, b"2002-01-01,Fossil Fuels,1,2", "4: '2'; expected 3 columns")
        self.refused_row(3, b"", "1 (year): the row ends before it")

    def test_bytes_that_are_no_text(self):
        self.refused_row(4, b"2003-01-01,Fossil Fuels,3\xff6", "3 (net_generation): '3\\\\xff6'")
        self.refused_row(4, b"2003-01-01,Fossil Fuels,3\x006", "3 (net_generation): '3\\\\x006'")

    def test_missing_year(self):
        data = self.ingest()
        del data["electricity"]["lines"][4]
        self.refused("Fossil Fuels has no value for 2005; expected every year from 2001 to 2017", "clean", data)

    def test_hours_out_of_order(self):
        data = self.ingest()
        lines = data["weather"]["lines"]
        lines[7], lines[8] = lines[8], lines[7]
        self.refused("row 10, column 1 (date): '2010-01-01T08:00:00'; expected a full hour after 2010-01-01T09:00:00",
                     "clean", data)

    def test_missing_hours_are_counted(self):
        data = self.ingest()
        del data["weather"]["lines"][100:103]
        self.assertEqual(self.done("clean", data)["missing_hours"], 4)


class Trend(Steps):
    def data(self, ys):
        return {"generation": {"Renewables": {str(2001 + i): y for i, y in enumerate(ys)}}}

    def config(self, **changes):
        return {**CONFIG["trend"], "resamples": 100, **changes}

    def test_straight_line_is_continued_exactly(self):
        found = self.done("trend", self.data([10, 20, 30, 40]), config=self.config(forecast_year=2006))
        self.assertEqual(found["forecast"]["Renewables"], {"value": 60, "low": 60, "high": 60, "per_year": 10})
        self.assertEqual(found["renewables_share"], 1)

    def test_too_short_a_history(self):
        self.refused("2 years; a trend needs at least 3", "trend", self.data([1, 2]), config=self.config())

    def test_unknown_renewable(self):
        self.refused("config: 'renewables' names 'Wind'; the input has Renewables", "trend", self.data([1, 2, 3]),
                     config=self.config(renewables=["Wind"]))

    def test_nothing_generated(self):
        self.refused("nothing was generated in 2003", "trend", self.data([1, 2, 0]), config=self.config())

    def test_resamples_are_bounded(self):
        self.refused("'resamples' is 99; expected 100 to 200000", "trend", self.data([1, 2, 3]),
                     config=self.config(resamples=99))


class Heating(Steps):
    def test_only_hours_below_the_base_count(self):
        data = {"temperature": {"2010-01": [6.0] * 24 + [18.0], "2010-02": [30.0] * 24 + [17.0] * 12}}
        found = self.done("heating", data, config={"base_celsius": 18})
        self.assertEqual(found, {"heating_degree_days": {"base_celsius": 18, "total": 12.5,
                                                         "by_month": {"2010-01": 12.0, "2010-02": 0.5}}})

    def test_base_must_be_a_number(self):
        self.refused("config: 'base_celsius' is \"18\"; expected a number", "heating", {"temperature": {}},
                     config={"base_celsius": "18"})


if __name__ == "__main__":
    unittest.main()
