"""What the claims of several pages compute, each once: tables and predictions of the published runs."""

import functools

from ser_utils.evaluation import tables
from ser_utils.paths import RESULTS
from ser_utils.training import runs

WORDS = ("none", "one", "two", "three", "four", "five", "six", "seven")
table2 = functools.cache(tables.table2)
predictions = functools.cache(functools.partial(runs.predictions, RESULTS))


@functools.cache
def network(model):
    """The published runs of a network by protocol."""
    return tables.network(model).set_index("protocol")
