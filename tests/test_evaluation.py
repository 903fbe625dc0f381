import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from test_generate import write_snapshot

from metrics.detectors.registry import Detectors
from metrics.names import parse
from stylegan2_pipeline.archive import Archive
from stylegan2_pipeline.checkpoint import load_snapshot
from stylegan2_pipeline.commands.metrics import command, figure
from stylegan2_pipeline.dataset import ImageDataset
from stylegan2_pipeline.evaluation import MetricMakers, evaluation_of
from stylegan2_pipeline.measuring import archive_digest
from stylegan2_pipeline.shared_sampling import in_batches
from torch_utils.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_data(folder, n=12, channels=3, classes=0, seed=0):
    folder.mkdir()
    images = np.random.RandomState(seed).randint(0, 256, [n, 16, 16, channels], dtype=np.uint8)
    for i, image in enumerate(images):
        Image.fromarray(image.squeeze()).save(folder / f"img{i:03d}.png")
    if classes:
        labels = [[f"img{i:03d}.png", i % classes] for i in range(n)]
        (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    return folder


def network(path, **kwargs):
    return load_snapshot(write_snapshot(path, **kwargs)).G_ema


def test_fakes_are_many_different_images_and_the_same_each_time(here):
    G, dataset = network(here / "net.pkl"), ImageDataset(write_data(here / "data"))

    def fakes(count, batch=4, seed=0):
        return np.concatenate(list(in_batches(MetricMakers(G, dataset, Detectors(CPU), seed)["fakes"], count, batch)))

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
    list(in_batches(MetricMakers(G, dataset, Detectors(CPU), 0)["fakes"], 300, batch=100))
    labels = torch.cat(seen)
    assert (labels.sum(1) == 1).all()
    assert (labels.sum(0) > 70).all()


def measured(G, dataset, name="swd", seed=0, num=1000, **kwargs):
    evaluation = evaluation_of(G, dataset, Detectors(CPU), seed=seed, batch=4, **kwargs)
    return evaluation.measure(parse(name).of(num))[0]


def test_results_record_what_they_stand_on(here):
    G, dataset = network(here / "net.pkl"), ImageDataset(write_data(here / "data"), mirror=True)
    result = measured(G, dataset, seed=5, snapshot="net.pkl", truncation_psi=0.7)
    assert result["counts"] == {"real": 12, "fake": 12, "floor": 6} and result["num_real"] == 12
    assert result["data"] == "data" and result["data_digest"] == dataset.digest() and result["mirror"] == "off"
    assert result["seed"] == 5 and result["noise_mode"] == "random" and result["truncation_psi"] == 0.7
    assert result["results"]["swd"] > 0 and result["snapshot_pkl"] == "net.pkl"
    assert measured(G, dataset, seed=5, truncation_psi=0.7)["results"] == result["results"]
    assert measured(G, dataset, seed=5)["results"] != result["results"]


def test_features_made_by_the_pool_are_those_of_its_images(here):
    G, dataset = network(here / "net.pkl"), ImageDataset(write_data(here / "data"))
    makers = MetricMakers(G, dataset, Detectors(CPU), 0)
    both = makers["fakes:pixels32+random_v1"](3, 5)
    images = makers["fakes"](3, 5)
    np.testing.assert_array_equal(both[:, :768], images.flatten(1).float() / 255)
    assert both.shape == (5, 768 + 512)
    real = makers["reals:pixels32"](2, 4)
    reals = evaluation_of(G, dataset, Detectors(CPU), seed=0, batch=4).inputs.real
    np.testing.assert_array_equal(real, reals.features("pixels32", 12)[2:6])
    assert len(makers["mirrored:pixels32"](0, 24)) == 24


@pytest.mark.parametrize(("net", "data", "message"), [
    ({"channels": 1}, {}, "--network makes 16x16 gray images, but --data holds 16x16 RGB"),
    ({"c_dim": 2}, {}, "labels of 2"),
])  # fmt: skip
def test_networks_that_do_not_fit_the_data_are_refused(here, net, data, message):
    with pytest.raises(UserError, match=message):
        measured(network(here / "net.pkl", **net), ImageDataset(write_data(here / "data", **data)))


def test_an_archive_has_the_digest_of_its_dataset(here):
    data = write_data(here / "data")
    assert archive_digest(Archive(data)) == ImageDataset(data).digest()


def run(*args):
    return CliRunner().invoke(command, [*map(str, args), *([] if "fetch" in args else ["--device=cpu"])])


def test_command_prints_and_adds_to_the_run_folder(here):
    data = write_data(here / "data", channels=1)
    folder = here / "training-runs" / "00000-data"
    write_snapshot(folder / "network-snapshot-000004.pkl", channels=1)
    (folder / "training_options.json").write_text("{}")
    for _ in range(2):
        result = run(f"--data={data}", "--num=10", "--metrics=swd")
        assert result.exit_code == 0, result.output
    assert "network-snapshot-000004.pkl" in result.output and "swd_16" in result.output
    assert re.search(r"Images: \d+ real, 10 generated, halves of \d+ for the floor\. Time: \S+\n", result.output)
    truncated = run(f"--data={data}", "--num=10", "--metrics=tone", "--trunc=0.5")
    assert "Truncation psi 0.5: compare at the same psi only." in truncated.output
    records = [json.loads(line) for line in (folder / "metric-swd.jsonl").read_text().splitlines()]
    assert len(records) == 2 and records[0]["results"] == records[1]["results"]
    assert records[0]["snapshot_pkl"].endswith("network-snapshot-000004.pkl") and records[0]["counts"]["fake"] == 10


def test_command_measures_the_panel_by_default_and_caches_the_real_side(here, monkeypatch):
    monkeypatch.setenv("STYLEGAN2_CACHE", str(here / "cache"))
    net = write_snapshot(here / "net.pkl")
    result = run(f"--network={net}", f"--data={write_data(here / 'data')}", "--num=12")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (here / "out-metrics").iterdir()) == [
        f"metric-{name}.jsonl" for name in ("pfd32", "prdc32", "rfd", "swd")]
    assert "ratio" in result.output and "prdc32_recall" in result.output
    assert list((here / "cache" / "metrics").glob("*.npz"))


@pytest.mark.parametrize(("value", "text"), [
    (41.58541, "41.5854"), (0.0, "0.0000"), (-0.00061234, "-0.0006123"), (1.25e-6, "1.25e-06"), (float("nan"), "nan"),
])  # fmt: skip
def test_small_figures_keep_their_digits(value, text):
    assert figure(value) == text


def test_figures_that_cannot_be_written_are_told(here):
    data = write_data(here / "data")
    (here / "o" / "metric-pfd32.jsonl").mkdir(parents=True)
    result = run(f"--images={data}", f"--data={data}", "--metrics=pfd32", "--outdir=o")
    assert result.exit_code == 2 and "was measured" in result.output and "'pfd32': " in result.output, result.output
    (here / "file").touch()
    result = run(f"--images={data}", f"--data={data}", "--metrics=pfd32", "--outdir=file/o")
    assert result.exit_code == 2 and "--outdir=file/o cannot be written to" in result.output


def test_statistics_serve_two_folders_as_they_serve_a_network(here, monkeypatch):
    monkeypatch.setenv("STYLEGAN2_CACHE", str(here / "cache"))
    data, net = write_data(here / "data"), write_snapshot(here / "net.pkl")
    assert run(f"--network={net}", f"--data={data}", "--metrics=rfd", "--num=12").exit_code == 0
    before = sorted((here / "cache" / "metrics").iterdir())
    assert before and run(f"--images={write_data(here / 'fake')}", f"--data={data}", "--metrics=rfd").exit_code == 0
    assert sorted((here / "cache" / "metrics").iterdir()) == before


def test_shapes_belong_to_the_digest(here):
    pixels = np.random.RandomState(0).randint(0, 256, [16, 16, 3], dtype=np.uint8)
    for name, second in (("a", pixels), ("b", pixels.reshape(8, 32, 3))):
        (here / name).mkdir()
        for i, image in enumerate((pixels, second)):
            Image.fromarray(image).save(here / name / f"{i}.png")
    assert archive_digest(Archive(here / "a")) != archive_digest(Archive(here / "b"))


def test_command_compares_two_folders_without_a_network(here):
    real, fake = write_data(here / "real"), write_data(here / "fake", n=9)
    result = run(f"--images={fake}", f"--data={real}", "--metrics=pfd32")
    assert result.exit_code == 0, result.output
    record = json.loads((here / "out-metrics" / "metric-pfd32.jsonl").read_text())
    assert record["counts"]["fake"] == 9 and record["images_digest"] == archive_digest(Archive(fake))
    assert record["snapshot_pkl"] is None and "truncation_psi" not in record


def test_the_holdout_is_recorded_by_its_content(here):
    data, holdout = write_data(here / "data", n=40), write_data(here / "holdout", n=30, seed=1)
    net = write_snapshot(here / "net.pkl")
    result = run(f"--network={net}", f"--data={data}", "--metrics=memorization", "--num=30", f"--holdout={holdout}")
    assert result.exit_code == 0, result.output
    record = json.loads((here / "out-metrics" / "metric-memorization.jsonl").read_text())
    assert record["holdout"] == str(holdout) and record["holdout_digest"] == archive_digest(Archive(holdout))
    assert record["counts"]["unseen"] <= 30 and "memorization_mia_auc" in record["results"]


def test_data_is_looked_up_in_the_network(here):
    data = write_data(here / "data")
    net = write_snapshot(here / "net.pkl", options={"data": {"path": str(data), "mirror": True}})
    result = run(f"--network={net}", "--metrics=pfd32", "--num=12")
    assert result.exit_code == 0, result.output
    assert json.loads((here / "out-metrics" / "metric-pfd32.jsonl").read_text())["network_mirror"] is True


def test_a_network_of_a_part_is_compared_with_all_and_searched_for_copies_of_the_part(here):
    data = write_data(here / "data", n=60)
    part = ImageDataset(data, max_images=25, seed=3)
    options = {"data": {"path": str(data), "subset": 25, "fingerprint": part.fingerprint()}, "seed": 3}
    net = write_snapshot(here / "net.pkl", options=options)
    assert run(f"--network={net}", "--metrics=pfd32,memorization", "--num=20", "--outdir=o").exit_code == 0
    layout, copies = (json.loads((here / "o" / f"metric-{name}.jsonl").read_text())
                      for name in ("pfd32", "memorization"))
    assert layout["num_real"] == 60 and layout["data_digest"] == ImageDataset(data).digest()
    assert copies["num_real"] == copies["counts"]["real"] == 25 and copies["data_digest"] == part.digest()
    assert run(f"--network={net}", f"--data={write_data(here / 'other', n=30)}", "--metrics=memorization", "--num=20",
               "--outdir=o").exit_code == 0
    other = (here / "o" / "metric-memorization.jsonl").read_text().splitlines()[1]
    assert json.loads(other)["num_real"] == 30


def test_command_uses_the_labels_of_a_conditional_network(here):
    data = write_data(here / "data", classes=2)
    net = write_snapshot(here / "net.pkl", c_dim=2)
    result = run(f"--network={net}", f"--data={data}", "--metrics=swd")
    assert result.exit_code == 0, result.output
    assert Path("out-metrics/metric-swd.jsonl").exists()


@pytest.mark.parametrize(("args", "words"), [
    (["--network=no.pkl", "--data=d", "--metrics=quality"], ["quality", "swd", "fid50k_full"]),
    (["fetch", "incept"], ["incept", "inception"]),
    (["--network=no.pkl", "--data=d", "--metrics=none"], ["--metrics"]),
    (["--network=net.pkl", "--images=d", "--data=d"], ["--images", "--network", "one of them"]),
    (["--images=d", "--metrics=swd"], ["--data is missing"]),
    (["--images=gray", "--data=d", "--outdir=gray/m"], ["--outdir=gray/m is in the folder that --images names"]),
    (["--images=gray", "--data=d", "--outdir=d"], ["--outdir=d is in the folder that --data names"]),
    (["--images=d", "--data=d", "--metrics=ppl2_wend"], ["ppl2_wend", "--network"]),
    (["--network=net.pkl", "--metrics=swd"], ["--data is missing", "does not say"]),
    (["--network=moved.pkl", "--metrics=swd"], ["--data is missing", "gone.zip"]),
    (["--images=gray", "--data=d", "--metrics=pfd32"], ["16x16 gray", "16x16 RGB", "dataset_tool.py"]),
    (["--network=net.pkl", "--data=d", "--metrics=fid50k_full", "--offline"], ["--offline", "https://", "--weights",
                                                                                "panel"]),
    (["--network=net.pkl", "--data=d", "--metrics=fid50k_full", "--weights=no.pth"], ["--weights", "no.pth"]),
    (["--network=net.pkl", "--data=d", "--holdout=d"], ["--holdout is for memorization"]),
    (["--network=net.pkl", "--data=d", "--metrics=memorization", "--holdout=none"], ["--holdout", "none"]),
])  # fmt: skip
def test_command_refuses_before_it_measures_anything(here, monkeypatch, args, words):
    monkeypatch.setenv("STYLEGAN2_WEIGHTS", str(here / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(here / "torch"))
    write_data(here / "d")
    write_data(here / "gray", channels=1)
    write_snapshot(here / "net.pkl")
    write_snapshot(here / "moved.pkl", options={"data": {"path": "gone.zip"}})
    result = run(*args)
    assert result.exit_code == 2 and all(word in result.output for word in words), result.output
    assert not (here / "out-metrics").exists()


def test_help_loads_neither_torch_nor_numpy():
    code = ("import sys; from stylegan2_pipeline.commands.metrics import command; "
            "command.main(['-h'], standalone_mode=False); assert not {'torch', 'numpy', 'PIL'} & set(sys.modules)")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "--num" in out and "swd " in out and "fid50k_full" in out and "fetch" in out


@pytest.mark.slow
def test_two_processes_measure_what_one_does(here):
    data = write_data(here / "data", n=30)
    net = write_snapshot(here / "net.pkl")
    results = []
    for gpus in (1, 2):
        folder = here / f"out{gpus}"
        done = subprocess.run([sys.executable, "-m", "metrics", f"--network={net}", f"--data={data}", "--num=30",
                               "--metrics=panel,memorization", "--batch=4", f"--gpus={gpus}", "--device=cpu",
                               "--no-cache", f"--outdir={folder}"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        records = [json.loads(path.read_text()) for path in sorted(folder.glob("metric-*.jsonl"))]
        assert [record["num_gpus"] for record in records] == [gpus] * 5
        results.append([record["results"] for record in records])
    assert results[0] == results[1]
