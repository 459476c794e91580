"""Numbers in the prose of notebook 01 that follow from the names of the clips and the fold table."""

import pandas as pd

from ser_utils import EMOTIONS
from ser_utils.data import folds, names

PAGE = "notebooks/01_data_exploration.ipynb"


def always_the_same():
    emotions = names.index_of(names.speech_names()).emotion.value_counts(normalize=True)
    return 100 * emotions.max(), 100 * emotions.min()


def in_every_fold():
    table = folds.table()
    counts = {(emotion, number) for protocol in folds.PROTOCOLS for emotion, number in
              pd.crosstab(table["clip"].str[6:8], table[protocol]).stack().groupby(level=0).unique().explode().items()}
    others = {number for emotion, number in counts if EMOTIONS[int(emotion) - 1] != "neutral"}
    (neutral,), (other,) = {number for emotion, number in counts if emotion == "01"}, others
    return neutral, other


CLAIMS = [
    (PAGE, "A classifier that always names the same emotion is right in {:.1f} % of the clips, or in {:.1f} % if that "
           "emotion is neutral.", always_the_same),
    (PAGE, "every fold holds {} neutral clips and {} of every other emotion", in_every_fold)]
