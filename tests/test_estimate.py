"""ser_utils.training.estimate: forecasts against simulated grids whose course is known, and files of earlier runs."""

import dataclasses
import heapq
import json

import numpy as np
import pytest
from fakes import fake_results

from ser_utils import config as configuration
from ser_utils import machine
from ser_utils.training import estimate
from ser_utils.training.estimate import Forecast, Timing, Work

SPEED = {"alexnet": 2.0, "lstm": 4.0, "transformer": 5.0, "resnet": 9.0, "vgg19": 21.0}  # seconds an epoch


def simulate(rng, jobs, folds=6, planned=100, noise=0.2, stopping=False, slow=1.0, start=12.0, finish=4.0):
    """A made-up grid: what happens, in order of time, and when it ends.

    Events are (time, what, run, epoch, seconds); runs are (network, number of epochs).
    """
    runs = [(model, int(rng.uniform(0.45, 1) * planned) if stopping else planned)
            for _ in range(folds) for model in SPEED]
    free, events = [0.0] * jobs, []
    for number, (model, epochs) in enumerate(runs):
        now = heapq.heappop(free)
        events.append((now, "start", number, 0, 0.0))
        for epoch in range(1, epochs + 1):
            took = slow * SPEED[model] * rng.lognormal(-noise ** 2 / 2, noise) + (start if epoch == 1 else 0)
            now += took
            events.append((now, "epoch", number, epoch, took))
        now += finish
        events.append((now, "end", number, epochs, finish))
        heapq.heappush(free, now)
    return runs, sorted(events), max(free)


def forecasts(runs, events, jobs, past=(), planned=100, patience=30):
    """What a grid would have said after every 40th event: (time, seconds left, networks guessed)."""
    forecast = Forecast(past)
    waiting = {number: Work(model, planned, patience) for number, (model, _) in enumerate(runs)}
    running, said = {}, []
    for count, (now, what, number, epoch, took) in enumerate(events, 1):
        if what == "start":
            running[number] = [waiting.pop(number), False, now]
        elif what == "epoch":
            work = running[number][0]
            (forecast.epoch if epoch > 1 else forecast.began)(work.kind, took)
            stops = runs[number][1]
            work.epoch(epoch, 0.5 + 0.001 * min(epoch, stops - patience))  # the best epoch is `patience` before the end
            running[number][1:] = True, now
        else:
            work = running.pop(number)[0]
            forecast.ended(work.kind, took, work.done / planned)
        if count % 40:
            continue
        progress = [(work, started, now - last) for work, started, last in running.values()]
        said.append((now, *forecast.left(progress, waiting.values(), jobs)))
    return said


@pytest.mark.parametrize("jobs", [1, 2, 5])
@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_with_earlier_runs_the_time_is_right_from_the_start(jobs, noise):
    rng = np.random.default_rng(jobs)
    runs, events, end = simulate(rng, jobs, noise=noise)
    past = [Timing(model, seconds * rng.uniform(0.95, 1.05), 12, 4) for model, seconds in SPEED.items()]
    first = Forecast(past).left([], [Work(model, 100, 30) for model, _ in runs], jobs)
    assert first[0] == pytest.approx(end, rel=0.15) and not first[1]
    for now, left, _ in forecasts(runs, events, jobs, past):
        if now < 0.9 * end:
            assert left == pytest.approx(end - now, rel=0.25)


@pytest.mark.parametrize("seed", range(4))
def test_early_stopping_is_learnt_from_the_runs_that_ended(seed):
    rng = np.random.default_rng(seed)
    runs, events, end = simulate(rng, 2, folds=10, stopping=True)
    past = [Timing(model, seconds, 12, 4, share) for model, seconds in SPEED.items() for share in (0.5, 0.7, 0.9)]
    first, _ = Forecast(past).left([], [Work(model, 100, 30) for model, _ in runs], 2)
    assert first == pytest.approx(end, rel=0.25)
    for known, begin in ((past, 0.0), ((), 0.3)):  # without earlier runs, once some have ended
        for now, left, _ in forecasts(runs, events, 2, known):
            if now > begin * end:
                assert now + left == pytest.approx(end, rel=0.25)
            if begin * end < now < 0.6 * end:  # later it is the luck of a few runs
                assert left == pytest.approx(end - now, rel=0.25)


def test_a_machine_that_is_slower_today_is_noticed_within_a_few_epochs():
    """Earlier runs were twice as fast; two networks at work are enough to correct the other three."""
    runs, events, end = simulate(np.random.default_rng(0), 2, slow=2.0)
    past = [Timing(model, seconds, 12, 4) for model, seconds in SPEED.items()]
    said = forecasts(runs, events, 2, past)
    assert Forecast(past).left([], [Work(model, 100, 30) for model, _ in runs], 2)[0] < 0.6 * end
    assert all(left == pytest.approx(end - now, rel=0.25) for now, left, _ in said if now < 0.9 * end)


def test_what_is_not_measured_is_said():
    forecast = Forecast()
    assert forecast.left([], [Work("lstm", 10, 5)], 1) == (None, {"lstm"})
    forecast.epoch("alexnet", 2.0)
    left, guessed = forecast.left([], [Work("lstm", 10, 5)], 1)
    assert guessed == {"lstm"} and left > 20
    forecast.epoch("lstm", 4.0)
    assert forecast.left([], [Work("lstm", 10, 5)], 1)[1] == set()
    assert forecast.left([], [], 1) == (0.0, set())


def test_a_run_that_was_resumed_needs_only_what_is_left_of_it():
    forecast = Forecast([Timing("lstm", 3.0, 10, 2)])
    assert forecast.run(Work("lstm", 100, 100)) == pytest.approx(312)
    assert forecast.run(Work("lstm", 100, 100, done=90, best=80)) == pytest.approx(42)
    assert forecast.run(Work("lstm", 100, 100, done=90, best=80), started=True, idle=1) == pytest.approx(31)
    assert forecast.run(Work("lstm", 100, 100, done=100), started=True) == pytest.approx(2)


def test_no_run_can_end_before_its_patience_has_run_out():
    forecast = Forecast([Timing("lstm", 1.0, 0, 0, 0.2)])
    assert forecast.epochs_left(Work("lstm", 100, 30, done=10, best=10)) == 30
    assert forecast.epochs_left(Work("lstm", 100, 5, done=10, best=10)) == 10
    assert forecast.epochs_left(Work("lstm", 100, 30, done=95, best=90)) == 5
    begun_anew = Work("lstm", 100, 30, done=40, best=40, best_accuracy=0.9)
    begun_anew.epoch(1, 0.2)
    assert (begun_anew.done, begun_anew.best) == (1, 1)


@pytest.mark.parametrize("busy, waiting, jobs, expected", [
    ([], [], 2, 0), ([5, 1], [], 2, 5), ([5, 1], [3], 2, 5), ([5, 1], [6], 2, 7), ([], [4, 4, 4], 2, 8),
    ([2], [9, 1], 3, 9),
])
def test_makespan_by_hand(busy, waiting, jobs, expected):
    assert estimate.makespan(busy, waiting, jobs) == expected


def test_speed_depends_on_the_settings_but_not_on_protocol_fold_and_seed():
    config = configuration.run_configs("quick", "ravdess", ["lstm"])[0]
    assert estimate.kind(config) == estimate.kind(dataclasses.replace(config, protocol="twins", fold=3, seed=1))
    assert estimate.kind(config) != estimate.kind(dataclasses.replace(config, batch_size=8))


def test_timings_of_this_machine_are_read_and_those_with_as_many_jobs_preferred(tmp_path):
    config, other = configuration.run_configs("quick", "ravdess", ["lstm", "vgg16"], ["random"])
    info = {"wall_seconds": 60.0, "epochs": 20, "device": machine.processor(), "precision": machine.precision()}
    for c in (config, other):
        folder = c.run_directory(tmp_path)
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(info | {"config": dataclasses.asdict(c)}))
    exact = Timing(estimate.kind(config), 5.0, 7.0, 1.0, 1.0)
    estimate.keep(exact, config.run_directory(tmp_path), estimate.setting(2))
    folder = tmp_path / "ravdess-quick"
    rough = [Timing(estimate.kind(c), 3.0, share=20 / 30, rough=True) for c in (config, other)]
    assert estimate.measured(folder, estimate.setting(2)) == [exact, rough[1]]
    assert estimate.measured(folder, estimate.setting(4)) == rough
    assert estimate.measured(folder, estimate.setting(2, cluster=True)) == rough
    path = other.run_directory(tmp_path) / "run.json"
    for other_place in ({"device": "another processor"}, {"device": machine.processor(), "precision": "float16"}):
        path.write_text(json.dumps(json.loads(path.read_text()) | other_place))
        assert estimate.measured(folder, estimate.setting(2)) == [exact]
    assert estimate.measured(tmp_path / "none", estimate.setting(2)) == []


def test_the_full_study_is_worked_out_from_timed_runs(tmp_path):
    fake_results(tmp_path, folds=[0])
    table = estimate.study(tmp_path).set_index("study")
    seconds = [json.loads(path.read_text())["wall_seconds"] for path in tmp_path.glob("random/*/fold0/run.json")]
    assert table.loc["126 runs", 1] == pytest.approx(18 * sum(seconds))
    assert table.loc["630 runs (5 seeds)", 1] == pytest.approx(90 * sum(seconds))
    assert table.loc["search of 200 trials", 1] == pytest.approx(200 / 7 * sum(seconds), rel=0.02)
    for study, row in table.iterrows():
        assert row[1] / 8 <= row[8] < 1.3 * row[1] / 8, study
        assert max(seconds) <= row[64] < row[8]
    text = estimate.study_markdown(tmp_path)
    assert "| CPU, float32 | 1 | 126 runs |" in text and "No GPU" in text


def test_networks_that_only_the_grid_has_timed_count_by_their_epochs(tmp_path):
    runs, results = tmp_path / "runs", tmp_path / "results"
    fake_results(results, protocols=["random"], folds=[0], models=["lstm", "vgg16"])
    for config in configuration.run_configs("full", "ravdess", folds=[0], protocols=["random"]):
        if config.model != "lstm":
            folder = config.run_directory(runs)
            folder.mkdir(parents=True)
            estimate.keep(Timing(estimate.kind(config), 2.0, 10.0, 4.0), folder, "CPU, float32, 2 at a time")
    # in the place of the Transformer's:
    estimate.keep(Timing("lstm-of-old-settings", 9.0), folder, "CPU, float32, 2 at a time")
    estimate.gather(runs, results)
    assert list(estimate.study(results).study) == [
        "108 of 126 runs (AlexNet, ResNet, InceptionNet, VGG16, VGG19, LSTM)"]
    study = config.run_directory(runs / "studies" / "recipe" / "seed")  # only the seed differs, not the speed
    study.mkdir(parents=True)
    estimate.keep(Timing(estimate.kind(config), 3.0, 10.0, 4.0), study, "CPU, float32, 2 at a time")
    vgg16 = next(c for c in configuration.run_configs("full", "ravdess", ["vgg16"]) if c.fold == 0)
    timed = vgg16.run_directory(runs / "studies" / "recipe" / "seed")  # has times of its own, which stay
    timed.mkdir(parents=True)
    estimate.keep(Timing(estimate.kind(vgg16), 50.0, 10.0, 4.0), timed, "CPU, float32, 2 at a time")
    for _ in range(2):  # a second time changes nothing
        estimate.gather(runs, results)
        table = estimate.study(results)
    lstm = json.loads((results / "random" / "lstm" / "fold0" / "run.json").read_text())["wall_seconds"]
    epochs = {c.model: c.epochs for c in configuration.run_configs("full", "ravdess")}
    others = sum(14 + 2 * epochs[name] for name in epochs if name not in ("lstm", "transformer"))
    seconds = 18 * (others + 14 + 3 * epochs["transformer"] + lstm)
    assert set(table.at_once) == {2}
    assert table.set_index("study").loc["126 runs", 1] == pytest.approx(seconds / 2, rel=0.03)
    assert "| CPU, float32 | 2 | 126 runs |" in estimate.study_markdown(results)


def test_processors_of_one_name_but_another_precision_are_told_apart(tmp_path):
    fake_results(tmp_path, protocols=["random"], folds=[0], models=["lstm", "vgg16"])
    path = tmp_path / "random" / "lstm" / "fold0" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"precision": "mixed_bfloat16"}))
    assert dict(estimate.study(tmp_path)[["device", "study"]].to_numpy()) == {
        "CPU, mixed_bfloat16": "18 of 126 runs (LSTM)", "CPU, float32": "18 of 126 runs (VGG16)"}


def test_a_device_that_timed_some_networks_counts_their_runs_and_names_them(tmp_path):
    fake_results(tmp_path, protocols=["random"], folds=[0], models=["lstm", "vgg16"])
    (row,) = estimate.study(tmp_path).to_dict("records")
    walls = [json.loads((tmp_path / "random" / model / "fold0" / "run.json").read_text())["wall_seconds"]
             for model in ("lstm", "vgg16")]
    assert row["study"] == "36 of 126 runs (VGG16, LSTM)" and row[1] == pytest.approx(18 * sum(walls))
    assert "| CPU, float32 | 1 | 36 of 126 runs (VGG16, LSTM) |" in estimate.study_markdown(tmp_path)


def test_the_command_line_prints_the_table(tmp_path, capsys):
    assert estimate.main([str(tmp_path)]) == 0
    assert "nothing to go by" in capsys.readouterr().out


@pytest.mark.parametrize("seconds, expected", [(40, "40 s"), (700, "12 min"), (3 * 3600 + 300, "3 h 5 min"),
                                               (52 * 3600, "2 d 4 h")])
def test_words(seconds, expected):
    assert estimate.words(seconds) == expected
