import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from stylegan2_pipeline.config import DataConfig, ScheduleConfig, TrainConfig
from stylegan2_pipeline.trackers import MLflow, TensorBoard, WeightsAndBiases, check_trackers, flat, make_trackers
from torch_utils.errors import UserError

CONFIG = {"optimizer": {"g_lr": 0.002, "betas": (0.0, 0.99)}, "cfg": "auto", "resume": None, "mirror": True,
          "metrics": ["swd"]}
GRID = np.zeros([1, 8, 8], np.uint8)


def events_of(folder):
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return events


def test_settings_in_one_level():
    assert flat(CONFIG) == {"optimizer.g_lr": 0.002, "optimizer.betas": "(0.0, 0.99)", "cfg": "auto", "mirror": True,
                            "metrics": "['swd']"}


def test_a_tracker_that_cannot_be_had_is_named_with_the_remedy(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"no tracker 'neptune'\. There are wandb, mlflow"):
        check_trackers(["neptune"])
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    (tmp_path / "wandb").mkdir()  # what wandb itself leaves in the working folder is not the package
    with pytest.raises(UserError, match=r"--track=wandb .*pip install '.\[wandb\]'"):
        check_trackers(["wandb"])
    (tmp_path / "wandb" / "__init__.py").touch()
    sys.path_importer_cache.clear()
    check_trackers(["wandb"])


def test_a_run_is_tracked_where_it_says():
    def names(**changes):
        data = DataConfig("x.zip", "x", 16, 3, 100)
        return [tracker.name for tracker in make_trackers(TrainConfig(data, **changes))]

    assert names() == ["TensorBoard"]
    assert names(track=("wandb", "mlflow")) == ["TensorBoard", "Weights & Biases", "MLflow"]


# TensorBoard.


def test_tensorboard_forgets_what_a_continued_run_does_again(tmp_path):
    for resume, kimgs in ((None, (4, 8, 12)), (8000, (12, 16))):
        board = TensorBoard()
        board.start(CONFIG, tmp_path, resume)
        for kimg in kimgs:
            board.scalars({"Loss/G/loss": kimg + (resume or 0)}, kimg * 1000, float(kimg))
            board.image("fakes", GRID, kimg * 1000)
        board.finish({})
    events = events_of(tmp_path)
    assert [(e.step, e.value, e.wall_time) for e in events.Scalars("Loss/G/loss")] == [
        (4, 4, 4), (8, 8, 8), (12, 8012, 12), (16, 8016, 16)]
    assert [e.step for e in events.Images("fakes")] == [4, 8, 12, 16]


def test_tensorboard_goes_back_within_a_run(tmp_path):
    board = TensorBoard()
    board.start(CONFIG, tmp_path, None)
    board.scalars({"x": 1.0}, 4000, 1.0)
    board.scalars({"x": 2.0}, 8000, 2.0)
    board.start(CONFIG, tmp_path, 4000)
    board.scalars({"x": 3.0}, 8000, 3.0)
    board.finish(None)
    assert [(e.step, e.value) for e in events_of(tmp_path).Scalars("x")] == [(4, 1.0), (8, 3.0)]


def test_ticks_under_a_kimg_have_steps_of_their_own(tmp_path):
    board, = make_trackers(TrainConfig(DataConfig("x", "x", 16, 3, 9), schedule=ScheduleConfig(tick_kimg=0.2)))
    board.start(CONFIG, tmp_path, None)
    for nimg in (200, 400):
        board.scalars({"x": 1.0}, nimg, 0.0)
    board.finish({})
    assert [e.step for e in events_of(tmp_path).Scalars("x")] == [200, 400]


def test_tensorboard_compares_runs_by_settings_and_final_metric(tmp_path):
    board = TensorBoard()
    board.start(CONFIG, tmp_path, None)
    board.scalars({"Metrics/swd": 7.5}, 4000, 1.0)
    board.finish({"Metrics/swd": 7.5})
    events = events_of(tmp_path)
    content = events.PluginTagToContent("hparams")
    session = HParamsPluginData.FromString(content[metadata.SESSION_START_INFO_TAG]).session_start_info
    assert session.hparams["optimizer.g_lr"].number_value == 0.002
    assert session.hparams["cfg"].string_value == "auto" and session.hparams["mirror"].number_value == 1
    experiment = HParamsPluginData.FromString(content[metadata.EXPERIMENT_TAG]).experiment
    metric, = experiment.metric_infos  # its value is the last one of the curve of this name
    assert events.Scalars(metric.name.tag)[-1].value == 7.5
    assert metadata.SESSION_END_INFO_TAG in content


# Weights & Biases.


class FakeWandb(ModuleType):
    """What the tracker calls of the package, with its names of arguments."""

    def __init__(self):
        super().__init__("wandb")
        self.inits, self.logged, self.defined, self.summary, self.finished = [], [], [], {}, []

    def init(self, *, project, name, dir, id, resume, config, allow_val_change, mode, settings):
        self.inits.append(SimpleNamespace(project=project, name=name, id=id, resume=resume, config=config, mode=mode,
                                          settings=settings))
        self.id, self.url = id or "new-id", "https://wandb.ai/somebody/run"
        return self

    def Settings(self, *, silent, console):
        return {"silent": silent, "console": console}

    def Image(self, image):
        return ("picture", image.size)

    def define_metric(self, name, step_metric=None):
        self.defined.append((name, step_metric))

    def log(self, data):
        self.logged.append(data)

    def finish(self, exit_code):
        self.finished.append(exit_code)


@pytest.fixture
def wandb(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "wandb", fake := FakeWandb())
    return fake


def test_wandb_gets_curves_over_kimg_pictures_and_the_final_metric(wandb, tmp_path):
    tracker = WeightsAndBiases()
    tracker.start(CONFIG, tmp_path / "00003-faces", None)
    tracker.scalars({"Loss/G/loss": 1.5}, 4000, 0.0)
    tracker.image("fakes", GRID, 4000)
    tracker.finish({"Metrics/swd": 7.5})
    run, = wandb.inits
    assert (run.name, run.config, run.id, run.resume) == ("00003-faces", CONFIG, None, None)
    assert run.settings == {"silent": True, "console": "off"}  # the terminal is ours
    assert wandb.defined == [("kimg", None), ("*", "kimg")]
    assert wandb.logged == [{"Loss/G/loss": 1.5, "kimg": 4.0}, {"fakes": ("picture", (8, 8)), "kimg": 4.0}]
    assert wandb.summary == {"Metrics/swd": 7.5} and wandb.finished == [0]


def test_wandb_goes_on_in_the_same_run(wandb, tmp_path):
    for _ in range(2):
        tracker = WeightsAndBiases()
        tracker.start(CONFIG, tmp_path, None)
        tracker.finish(None)
    assert [(run.id, run.resume) for run in wandb.inits] == [(None, None), ("new-id", "allow")]
    assert wandb.finished == [1, 1]
    tracker.start(CONFIG, tmp_path, 4000)  # back to an earlier state of the run that it has open
    assert len(wandb.inits) == 2


@pytest.mark.parametrize(("variables", "netrc", "mode"), [
    ({}, "", "offline"), ({"WANDB_API_KEY": "k"}, "", None), ({"WANDB_MODE": "disabled"}, "", None),
    ({}, "machine api.wandb.ai\n  login user\n  password k\n", None), ({}, "machine elsewhere password", "offline"),
    ({"WANDB_BASE_URL": "https://own.host"}, "machine own.host login user password k\n", None),
])  # fmt: skip
def test_wandb_without_a_key_is_offline_and_never_asks(wandb, tmp_path, monkeypatch, variables, netrc, mode):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (tmp_path / ".netrc").write_text(netrc)
    (tmp_path / ".netrc").chmod(0o600)
    told = WeightsAndBiases().start(CONFIG, tmp_path / "run", None)
    assert wandb.inits[0].mode == mode
    assert ("wandb sync" in told) == (mode == "offline") and ("https://wandb.ai" in told) == (mode is None)


# MLflow.


class FakeMlflow:
    """A server of experiments and runs, and the client's calls with its names of arguments."""

    def __init__(self):
        self.uris, self.experiments, self.runs = [], {}, {}

    def client(self, tracking_uri):
        self.uris.append(tracking_uri)
        return self

    def get_experiment_by_name(self, name):
        return SimpleNamespace(experiment_id=name) if name in self.experiments else None

    def create_experiment(self, name, artifact_location=None):
        self.experiments[name] = artifact_location
        return name

    def create_run(self, experiment_id, start_time=None, tags=None, run_name=None):
        run_id = f"run{len(self.runs)}"
        self.runs[run_id] = SimpleNamespace(name=run_name, status="RUNNING", params={}, metrics=[], images=[])
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id))

    def update_run(self, run_id, status=None, name=None):
        self.runs[run_id].status = status

    def log_batch(self, run_id, metrics=(), params=(), tags=(), synchronous=None):
        assert len(params) <= 100
        for param in params:
            assert param[0] not in self.runs[run_id].params, "a parameter cannot be changed"
            self.runs[run_id].params[param[0]] = param[1]
        self.runs[run_id].metrics += metrics

    def log_image(self, run_id, image, artifact_file=None, key=None, step=None, timestamp=None, synchronous=None):
        self.runs[run_id].images.append((key, step, image.size))

    def set_terminated(self, run_id, status=None, end_time=None):
        self.runs[run_id].status = status


@pytest.fixture
def mlflow(monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "1")  # the tracker sets them where they are not set
    server = FakeMlflow()
    modules = {name: ModuleType(name) for name in ("mlflow", "mlflow.entities", "mlflow.tracking")}
    modules["mlflow"].entities = modules["mlflow.entities"]
    modules["mlflow.entities"].Metric = lambda key, value, timestamp, step: (key, value, timestamp, step)
    modules["mlflow.entities"].Param = lambda key, value: (key, value)
    modules["mlflow.tracking"].MlflowClient = server.client
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return server


def test_mlflow_gets_parameters_curves_and_pictures(mlflow, tmp_path):
    tracker = MLflow()
    told = tracker.start({**CONFIG, "many": {str(i): i for i in range(150)}}, tmp_path / "00003-faces", None)
    tracker.scalars({"Loss/G/loss": 1.5}, 4000, 12.25)
    tracker.image("fakes", GRID, 4000)
    tracker.finish({"Metrics/swd": 7.5})
    run = mlflow.runs["run0"]
    assert run.name == "00003-faces" and run.status == "FINISHED"
    assert run.params["optimizer.g_lr"] == "0.002" and run.params["many.149"] == "149"
    assert run.metrics == [("Loss/G/loss", 1.5, 12250, 4000)] and run.images == [("fakes", 4000, (8, 8))]
    assert mlflow.uris == [f"sqlite:///{tmp_path}/mlflow.db"] and mlflow.uris[0] in told
    assert mlflow.experiments == {"stylegan2-pipeline": (tmp_path / "mlartifacts").as_uri()}


def test_mlflow_goes_on_in_the_same_run_unless_that_is_gone(mlflow, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://own.host")
    for last in (False, False, True):
        if last:
            mlflow.runs["elsewhere"] = mlflow.runs.pop("run0")
        tracker = MLflow()
        tracker.start(CONFIG, tmp_path, None)
        assert [run.status for run in mlflow.runs.values()][-1] == "RUNNING"
        tracker.finish(None)
    assert list(mlflow.runs) == ["elsewhere", "run1"] and mlflow.uris == ["https://own.host"] * 3
    assert mlflow.runs["run1"].status == "FAILED"
    assert json.loads((tmp_path / "trackers.json").read_text()) == {"mlflow": "run1"}
    assert mlflow.experiments == {"stylegan2-pipeline": None}
