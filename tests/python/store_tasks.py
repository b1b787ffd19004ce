"""The tasks of test_store.py that run in a process of their own."""

import numpy

import pipeorch


@pipeorch.task("sum:array", execution="process")
def total(values: numpy.ndarray) -> float:
    return float(values.sum())


@pipeorch.task("double:array", execution="process")
def double(values: numpy.ndarray) -> numpy.ndarray:
    return values * 2
