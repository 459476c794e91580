"""The page *Listen to the mistakes*: published test clips of unseen voices, what each network said, and their sound.

The page embeds DataTables, from the package itables, and fetches nothing. It holds no sound: it plays clips from the
reader's own copy of RAVDESS, either the one that the report was made with or a folder chosen on the page.
"""

import base64
import os
from pathlib import Path
from urllib.parse import quote

import pandas as pd
from itables.options import dt_bundle

from ser_utils import EMOTIONS
from ser_utils.data import names
from ser_utils.data.corpus import Corpus
from ser_utils.evaluation import metrics
from ser_utils.paths import RESULTS
from ser_utils.training import runs

FACTS = ["emotion", "intensity", "actor", "gender", "statement", "repetition"]


def table(root: str | Path = RESULTS) -> pd.DataFrame:
    """What networks said of clips of voices they had not heard, a row a clip, those first that fewest were right about.

    Columns: clip, those of ``FACTS``; the answers, emotions, of "ensemble" (``metrics.ensemble``) and of each network;
    right, how many networks. Only clips that all of them judged, under ``actors``; no rows if fewer than two did.
    """
    said = runs.predictions(root, "actors")
    networks = metrics.in_order(said.model)
    said = said[said.groupby("clip").model.transform("nunique") == len(networks)]
    if said.empty or len(networks) < 2:
        return pd.DataFrame(columns=["clip", *FACTS, "right"])
    answers = pd.concat([metrics.ensemble(said), said]).pivot(index="clip", columns="model", values="prediction")
    answers = answers[["ensemble", *networks]].map(EMOTIONS.__getitem__)
    found = names.index_of(answers.index)[["clip", *FACTS]].merge(answers, left_on="clip", right_index=True)
    found["right"] = found[networks].eq(found.emotion, axis=0).sum(axis=1)
    return found.sort_values(["right", "clip"], ignore_index=True)


def values(found: pd.DataFrame, corpus: Corpus, output: Path) -> dict:
    """What the template needs of :func:`table`: the data of the page, and the library that shows them.

    Where the clips of RAVDESS lie is told relative to ``output``, the page's folder; synthetic ones are left out.
    """
    index = corpus.index if corpus.kind == "ravdess" else corpus.index.head(0)
    titles = [[name, metrics.model_name(name)] for name in found.columns[found.columns.get_loc("ensemble") + 1: -1]]
    data = {"titles": [["ensemble", f"Mean of {len(titles)}"], *titles], "emotions": EMOTIONS,
            "sentences": names.STATEMENTS, "columns": list(found), "values": found.to_numpy().tolist(),
            "files": {clip: quote(os.path.relpath(path, output)) for clip, path in index[["clip", "path"]].to_numpy()}}
    bundle = Path(dt_bundle)
    return {"data": data, "table_css": bundle.with_suffix(".css").read_text(encoding="utf-8"),
            "table_js": base64.b64encode(bundle.read_bytes()).decode()}
