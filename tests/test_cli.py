"""The command line: an answer or one sentence for every file, exit codes, score."""

import importlib
import io
import json
import struct
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import soundfile
from fakes import MODELS, fake_probabilities
from test_predict import RATE, babble, recognizer, run  # noqa: F401  fixtures

from ser_utils import cli, predict
from ser_utils.evaluation import score
from ser_utils.evaluation.metrics import PROBABILITIES
from ser_utils.paths import RESULTS, ROOT
from ser_utils.training import runs

WAVE = babble()


def sound(wave=WAVE, rate=RATE, form="WAV", subtype=None):
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=form, subtype=subtype)
    return file.getvalue()


def spoilt(value):
    wave = WAVE.copy()
    wave[9_000] = value
    return sound(wave, subtype="FLOAT")


def header(at, form, value):
    content = bytearray(sound())
    struct.pack_into(form, content, at, value)
    return bytes(content)


noise = np.random.default_rng(0).uniform(-0.3, 0.3, 32_000)
click = np.zeros(RATE)
click[4_000:4_100] = 0.5
UNUSABLE = {
    "end.wav": sound(np.append(np.zeros(RATE), click[3_900:4_100])),  # sound in less than the last 20 ms
    "empty.wav": b"", "text.wav": b"Not a sound at all, but a few words.\n", "zip.wav": b"PK\3\4" + bytes(200),
    "picture.mp3": b"\x89PNG\r\n\x1a\n" + bytes(300), "song.m4a": b"\0\0\0\x20ftypM4A " + bytes(90),
    "a.wma": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + bytes(99), "riff.wav": b"RIFF",
    "no sound.wav": sound()[:44], "10 ms.wav": sound(WAVE[6_000:6_160]), "cut.wav": sound()[:9_000],
    "cut.flac": sound(noise, form="FLAC")[:9_000], "cut.mp3": sound(noise, form="MP3")[:4_000],
    "cut.ogg": sound(noise, form="OGG")[:3_000], "cut.aiff": sound(form="AIFF")[:9_000], "click.wav": sound(click),
    "silent.wav": sound(0 * WAVE), "whisper.wav": sound(1e-5 * WAVE, subtype="FLOAT"), "nan.wav": spoilt(np.nan),
    "infinite.wav": spoilt(-np.inf), "numbers.wav": sound(32_768 * WAVE, subtype="FLOAT"),
    "clipped.wav": sound(np.clip(90 * WAVE, -1, 1)), "4 kHz.wav": sound(WAVE, 4_000),
    "384 kHz.wav": sound(noise, 384_000), "rate 0.wav": header(24, "<I", 0), "no channels.wav": header(22, "<H", 0),
    "codec.wav": header(20, "<H", 0x1234)}
SAID = {  # of some of these: what is wrong with them
    "empty.wav": "empty, 0 bytes", "riff.wav": "can't be decoded", "10 ms.wav": "lasts 0.010 s", "cut.wav": "cut short",
    "cut.mp3": "cut short", "cut.aiff": "cut short", "click.wav": "a click of 20 ms", "silent.wav": "is silent",
    "whisper.wav": "is silent", "nan.wav": "NaN or infinite", "infinite.wav": "NaN or infinite",
    "numbers.wav": "louder than full scale", "4 kHz.wav": "sample rate of 4000 Hz"}
MADE = ["folder", "broken link.wav", "loop.wav", "gone.wav", "forbidden.wav"]
USABLE = {  # the same sound
    "mono.wav": sound(), "opposite.wav": sound(np.stack([WAVE, -WAVE], axis=1)), "sound.txt": sound(),
    "20 channels.wav": sound(np.stack([WAVE] * 20, axis=1)), "stream.wav": header(40, "<I", 0),
    "stream2.wav": header(40, "<I", 0xFFFFFFFF), "Straße.flac": sound(form="FLAC"), "a.aiff": sound(form="AIFF")}
OTHERWISE = {"24 bit.wav": sound(subtype="PCM_24"), "gsm.wav": sound(WAVE, 8_000, subtype="GSM610"),
             "ulaw.au": sound(form="AU", subtype="ULAW"), "a little clipped.wav": sound(np.clip(5 * WAVE, -1, 1)),
             "0.3 s.wav": sound(babble(0.3, lead=0))}


@pytest.fixture
def answer(recognizer, tmp_path, monkeypatch, capfd):  # noqa: F811
    """Has the command line answer, with a network that is there already; exit code, standard output and error."""
    monkeypatch.setattr(predict.EmotionRecognizer, "load", classmethod(lambda cls, name: recognizer))
    monkeypatch.chdir(tmp_path)

    def run_it(*arguments):
        capfd.readouterr()
        code = cli.main(["predict", *map(str, arguments)])
        return code, *capfd.readouterr()
    return run_it


def test_every_bad_file_has_one_sentence_and_never_stops_the_others(answer, tmp_path, monkeypatch):
    for name, content in (UNUSABLE | USABLE | OTHERWISE).items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken link.wav").symlink_to("nowhere.wav")
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    (tmp_path / "forbidden.wav").write_bytes(sound())
    usual = open

    def guarded(path, *rest, **options):  # root may read everything
        if str(path).endswith("forbidden.wav"):
            raise PermissionError(13, "Permission denied")
        return usual(path, *rest, **options)
    monkeypatch.setattr("builtins.open", guarded)
    bad = [*UNUSABLE, *MADE]
    assert len(bad) >= 30
    code, out, err = answer("--csv", *bad, *USABLE, *OTHERWISE)
    assert code == 2
    lines = err.strip().splitlines()
    assert len(lines) == len(bad) and "Traceback" not in err
    for name, line in zip(bad, lines, strict=True):
        assert name in line and SAID.get(name, "") in line and line.endswith(".") and 30 < len(line) < 200
    table = pd.read_csv(io.StringIO(out), dtype={"error": str}).set_index("file")
    assert table.label[bad].isna().all() and table.label[[*USABLE, *OTHERWISE]].notna().all()
    values = table[PROBABILITIES].astype(float)
    for name in USABLE:
        np.testing.assert_allclose(values.loc[name], values.loc["mono.wav"], atol=2e-3, err_msg=name)
    assert "8,000 Hz" in table.notes["gsm.wav"] and "clipped" in table.notes["a little clipped.wav"]


def test_answers_as_table_json_csv_timeline_and_picture(answer, tmp_path):
    (tmp_path / "a.wav").write_bytes(sound())
    (tmp_path / "long.wav").write_bytes(sound(np.concatenate([babble(4, seed=seed) for seed in range(3)])))
    code, out, err = answer("a.wav")
    assert (code, err) == (0, "") and out.split()[:2] == ["file", "label"] and "a.wav" in out
    code, out, _ = answer("a.wav", "long.wav", "--json")
    assert code == 0 and [row["file"] for row in json.loads(out)] == ["a.wav", "long.wav"]
    code, out, _ = answer("long.wav", "--timeline", "--csv", "--plot", "a.png")
    table = pd.read_csv(io.StringIO(out))
    assert code == 0 and list(table)[:5] == ["file", "start", "end", "label", "confidence"] and len(table) > 20
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    code, out, err = answer("a.wav", "--plot", "a.wav/a.png")  # in no folder
    assert code == 2 and "a.wav" in out and "picture can't be written" in err
    cut = table.assign(start=table.start - 0.02 * (table.index == 9), label="sad")  # as where 30 s are cut
    assert len(predict.spans(cut)) == 3  # parts, between which there is silence
    joined = predict.spans(table)
    assert (joined.end - joined.start).sum() == pytest.approx((table.end - table.start).sum())
    assert len(joined) < len(table)
    assert ((joined.label != joined.label.shift()) | (joined.start != joined.end.shift())).all()
    assert answer("a.wav", "folder", "--timeline")[0] == answer("gone.wav", "--timeline")[0] == 2
    for words in (("a.wav", "b.wav", "--plot", "a.png"), ("a.wav", "--plot", "a.doc")):
        with pytest.raises(SystemExit, match="2"):
            answer(*words)


def test_a_folder_of_recordings_enrols_a_voice(answer, tmp_path, monkeypatch, recognizer):  # noqa: F811
    (tmp_path / "a.wav").write_bytes(sound())
    with pytest.raises(SystemExit, match="2"):
        answer("a.wav", "--voice", "a.wav")
    (tmp_path / "voice").mkdir()
    code, _, err = answer("a.wav", "--voice", "voice")
    assert code == 2 and "one recording at least" in err
    (tmp_path / "voice" / "b.wav").write_bytes(sound())
    monkeypatch.setattr(recognizer, "enrol", (heard := []).extend)
    assert answer("a.wav", "--voice", "voice")[0] == 0 and [path.name for path in heard] == ["b.wav"]


def test_help_unknown_commands_and_missing_weights(capfd, monkeypatch, tmp_path):
    for arguments, code in ((["--help"], 0), (["sing"], 2), ([], 2)):
        with pytest.raises(SystemExit, match=str(code)):
            cli.main(arguments)
    said = capfd.readouterr()
    assert set(cli.COMMANDS) <= set(said.out.split()) and "'sing' (choose from" in said.err
    assert cli.main(["predict", "a.wav", "--model", "nobody"]) == 1
    assert "There are no weights" in capfd.readouterr().err
    monkeypatch.setenv("RAVDESS_DIR", str(tmp_path))
    assert cli.main(["data", "validate"]) == 1 and str(tmp_path) in capfd.readouterr().err  # no folder "validate"
    monkeypatch.setenv("KERAS_BACKEND", "nonsense")
    assert cli.main(["predict", "a.wav"]) == 1 and "set it to tensorflow or jax" in capfd.readouterr().err


def test_every_module_that_is_a_command_has_help(capsys):
    for path in (ROOT / "ser_utils").rglob("*.py"):
        if "__main__" in path.read_text(encoding="utf-8"):
            module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
            with pytest.raises(SystemExit, match="0"):
                module.main(["--help"])
            assert capsys.readouterr().out.startswith("usage: "), path


def test_the_command_itself_is_quiet_but_for_its_sentence(tmp_path, run):  # noqa: F811
    (tmp_path / "a.wav").write_text("words")
    done = subprocess.run([sys.executable, "-m", "ser_utils.cli", "predict", tmp_path / "a.wav", "--model", run],
                          text=True, capture_output=True)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1 and "a.wav" in done.stderr


@pytest.mark.parametrize("kind", ["whole", "bare", "file names"])
def test_score_stands_beside_the_published_networks(results, tmp_path, capsys, kind):
    mine = runs.predictions(results, "actors", MODELS[0])
    if kind != "whole":
        mine = mine.sample(frac=1, random_state=0)[["clip", *PROBABILITIES]]
    if kind == "file names":
        mine["clip"] = "Actor/" + mine["clip"] + ".wav"
    text = mine.to_csv(index=False).replace(",", ", ") + "," * (len(mine.columns) - 1) + "\n"  # as spreadsheets do
    (tmp_path / "mine.csv").write_text(text)
    assert cli.main(["score", str(tmp_path / "mine.csv"), "--results", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("\n") == 3  # beside no network
    assert cli.main(["score", str(tmp_path / "mine.csv"), "--results", str(results)]) == 0
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows[2:]] == ["Yours", "AlexNet", "ResNet"]
    assert rows[2][1:6] == rows[3][1:6] and rows[3][6:] == ["+0.0", "1.000", "1.000", "no"] and rows[2][5] == "2"


def test_score_knows_the_ten_folds(tmp_path, capsys):
    runs.predictions(RESULTS, "random10", "alexnet").to_csv(tmp_path / "mine.csv", index=False)
    assert cli.main(["score", str(tmp_path / "mine.csv"), "--protocol", "random10"]) == 0
    mine, same = (line.split("|") for line in capsys.readouterr().out.splitlines()[2:4])
    assert mine[2:7] == same[2:7] and mine[6].strip() == "10" and same[7].strip() == "+0.0"


def test_score_finds_what_differs_and_refuses_what_is_no_whole_fold(results, tmp_path, capsys):
    mine = runs.predictions(results, "actors", MODELS[0])
    mine[PROBABILITIES] = fake_probabilities(mine.label, 0.99, np.random.default_rng(5))
    mine.to_csv(tmp_path / "mine.csv", index=False)
    table = score.compare(score.read(tmp_path / "mine.csv", "actors"), results)
    assert list(table.Significant) == ["–", "yes", "yes"]
    bad = [(mine.assign(clip="me"), "no speech"), (mine.assign(p_calm=2.0), "sum to"),
           (mine.assign(label=3), "contradicts"), (mine[:300], "whole folds"),
           (runs.predictions(RESULTS, "random", "lstm"), "its folds are not those of actors")]
    texts = [(table.to_csv(index=False), said) for table, said in bad]
    for text, said in [*texts, ("", "no table"), ("a,b\n1,2\n", "no table"), ("clip\n", "columns missing")]:
        (tmp_path / "bad.csv").write_text(text)
        assert cli.main(["score", str(tmp_path / "bad.csv")]) == 2 and said in capsys.readouterr().err
