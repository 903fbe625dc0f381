import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from test_generate import write_snapshot

from stylegan2_pipeline.checkpoint import load_snapshot
from stylegan2_pipeline.commands.metrics import command
from stylegan2_pipeline.dataset import ImageDataset
from stylegan2_pipeline.evaluation import evaluate, metric_images, real_images
from stylegan2_pipeline.shared_sampling import in_batches
from torch_utils.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_data(folder, n=12, channels=3, classes=0):
    folder.mkdir()
    images = np.random.RandomState(0).randint(0, 256, [n, 16, 16, channels], dtype=np.uint8)
    for i, image in enumerate(images):
        Image.fromarray(image.squeeze()).save(folder / f"img{i:03d}.png")
    if classes:
        labels = [[f"img{i:03d}.png", i % classes] for i in range(n)]
        (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    return folder


def network(path, **kwargs):
    return load_snapshot(write_snapshot(path, **kwargs)).G_ema


def test_reals_are_every_image_once_in_a_seeded_random_order(here):
    dataset = ImageDataset(write_data(here / "data"), mirror=True)
    batches = list(real_images(dataset, 5, seed=0))
    assert [len(batch) for batch in batches] == [5, 5, 2]
    images = np.concatenate(batches)
    stored = [dataset.image(i).tobytes() for i in range(12)]
    assert sorted(image.tobytes() for image in images) == sorted(stored)
    assert [image.tobytes() for image in images] != stored
    np.testing.assert_array_equal(np.concatenate(list(real_images(dataset, 12, seed=0))), images)
    assert (np.concatenate(list(real_images(dataset, 12, seed=1))) != images).any()


def test_fakes_are_many_different_images_and_the_same_each_time(here):
    G, dataset = network(here / "net.pkl"), ImageDataset(write_data(here / "data"))

    def fakes(count, batch=4, seed=0):
        return np.concatenate(list(in_batches(metric_images(G, dataset, device=CPU, seed=seed), count, batch)))

    images = fakes(10)
    assert images.shape == (10, 3, 16, 16) and images.dtype == np.uint8
    assert len({image.tobytes() for image in images}) == 10
    np.testing.assert_array_equal(fakes(10), images)
    np.testing.assert_array_equal(fakes(4), images[:4])
    assert np.abs(fakes(10, batch=3).astype(int) - images).max() <= 1
    assert np.abs(fakes(10, seed=1).astype(int) - images).max() > 10


def test_labels_of_fakes_are_drawn_as_the_data_has_them(here, monkeypatch):
    G = network(here / "net.pkl", c_dim=3)
    dataset = ImageDataset(write_data(here / "data", n=9, classes=3), use_labels=True)
    seen = []
    forward = G.mapping.forward
    monkeypatch.setattr(G.mapping, "forward", lambda z, c, *args: seen.append(c) or forward(z, c, *args))
    list(in_batches(metric_images(G, dataset, device=CPU, seed=0), 300, batch=100))
    labels = torch.cat(seen)
    assert (labels.sum(1) == 1).all()
    assert (labels.sum(0) > 70).all()


def test_results_record_what_they_stand_on(here):
    G, dataset = network(here / "net.pkl"), ImageDataset(write_data(here / "data"), mirror=True)
    result, = evaluate(G, dataset, ["swd"], device="cpu", batch=4, seed=5, snapshot="net.pkl")
    assert result["counts"] == {"real": 12, "fake": 12, "floor": 6} and result["num_real"] == 12
    assert result["data"] == "data" and result["data_digest"] == dataset.digest() and result["mirror"] == "off"
    assert result["seed"] == 5 and result["noise_mode"] == "random" and result["truncation_psi"] == 1.0
    assert result["results"]["swd"] > 0
    again, = evaluate(G, dataset, ["swd"], device="cpu", batch=4, seed=5)
    assert again["results"] == result["results"]


@pytest.mark.parametrize(("net", "data", "message"), [
    ({"channels": 1}, {}, r"--network .*\(1, 16, 16\).*--data .*\(3, 16, 16\)"),
    ({"c_dim": 2}, {}, "labels of 2"),
])  # fmt: skip
def test_networks_that_do_not_fit_the_data_are_refused(here, net, data, message):
    with pytest.raises(UserError, match=message):
        evaluate(network(here / "net.pkl", **net), ImageDataset(write_data(here / "data", **data)), ["swd"],
                 device="cpu", batch=4, seed=0)


def test_command_prints_and_adds_to_the_run_folder(here):
    data = write_data(here / "data", channels=1)
    run = here / "training-runs" / "00000-data"
    write_snapshot(run / "network-snapshot-000004.pkl", channels=1)
    (run / "training_options.json").write_text("{}")
    for _ in range(2):
        result = CliRunner().invoke(command, [f"--data={data}", "--num=10", "--device=cpu"])
        assert result.exit_code == 0, result.output
    assert "network-snapshot-000004.pkl" in result.output and "swd_16" in result.output
    records = [json.loads(line) for line in (run / "metric-swd.jsonl").read_text().splitlines()]
    assert len(records) == 2 and records[0]["results"] == records[1]["results"]
    assert records[0]["snapshot_pkl"].endswith("network-snapshot-000004.pkl") and records[0]["counts"]["fake"] == 10


def test_command_uses_the_labels_of_a_conditional_network(here):
    data = write_data(here / "data", classes=2)
    net = write_snapshot(here / "net.pkl", c_dim=2)
    result = CliRunner().invoke(command, [f"--network={net}", f"--data={data}", "--device=cpu"])
    assert result.exit_code == 0, result.output
    assert Path("out/metric-swd.jsonl").exists()


@pytest.mark.parametrize(("names", "words"), [
    ("swd,fid50k_full", ["fid50k_full", "weights", "swd"]), ("nope", ["nope", "swd", "fid50k_full"]),
])  # fmt: skip
def test_command_refuses_metrics_before_doing_anything(here, names, words):
    result = CliRunner().invoke(command, ["--network=no.pkl", "--data=no.zip", f"--metrics={names}"])
    assert result.exit_code == 2 and all(word in result.output for word in words), result.output


def test_help_loads_neither_torch_nor_numpy():
    code = ("import sys; from stylegan2_pipeline.commands.metrics import command; "
            "command.main(['-h'], standalone_mode=False); assert not {'torch', 'numpy', 'PIL'} & set(sys.modules)")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "--num" in out and "swd " in out
