"""Snapshots: ours round trip, public ones open, neither runs code."""

import pickle

import numpy as np
import pytest
import torch
from golden_data import GOLDEN, Golden, relative_error

from stylegan2_pipeline.archive import ArchiveWriter
from stylegan2_pipeline.checkpoint import load_snapshot, newest_snapshot, save_snapshot
from stylegan2_pipeline.networks import Discriminator, Generator
from stylegan2_pipeline.transfer import resume_weights, transfer
from torch_utils.errors import UserError

G_KWARGS = dict(z_dim=8, c_dim=0, w_dim=8, img_resolution=16, img_channels=1, mapping_kwargs={"num_layers": 2},
                synthesis_kwargs={"channel_base": 64, "channel_max": 8})
D_KWARGS = dict(c_dim=0, img_resolution=16, img_channels=1, channel_base=64, channel_max=8)


def networks(**changes):
    g, d = {**G_KWARGS, **changes}, {**D_KWARGS, **changes}
    return {"G": Generator(**g), "D": Discriminator(**d), "G_ema": Generator(**g)}


def save(path, nets, **about):
    about = dict(options={"batch": 4}, class_names=None, cur_nimg=2000, augment_p=0.25, pl_mean=0.5) | about
    save_snapshot(path, nets, {"G": G_KWARGS, "D": D_KWARGS, "G_ema": G_KWARGS}, **about)


def test_own_snapshot_round_trip(tmp_path):
    nets = networks()
    save(tmp_path / "a.pkl", nets, class_names=["glioma", "none"])
    snapshot = load_snapshot(tmp_path / "a.pkl")
    for name, net in nets.items():
        for key, value in getattr(snapshot, name).state_dict().items():
            assert torch.equal(value, net.state_dict()[key])
    assert snapshot.class_names == ["glioma", "none"] and snapshot.cur_nimg == 2000 and snapshot.augment_p == 0.25
    assert not snapshot.G_ema.training and not any(p.requires_grad for p in snapshot.G.parameters())
    assert load_snapshot(tmp_path / "a.pkl", networks=("G_ema",)).D is None


def test_equal_networks_give_equal_bytes(tmp_path):
    nets = networks()
    save(tmp_path / "a.pkl", nets)
    save(tmp_path / "b.pkl", nets)
    assert (tmp_path / "a.pkl").read_bytes() == (tmp_path / "b.pkl").read_bytes()


def test_own_snapshot_is_plain_containers(tmp_path):
    """An unpickler that knows numpy's arrays and nothing else reads it."""
    save(tmp_path / "a.pkl", networks())

    class Plain(pickle.Unpickler):
        def find_class(self, module, name):
            assert module.startswith("numpy"), (module, name)
            return super().find_class(module, name)

    with open(tmp_path / "a.pkl", "rb") as file:
        data = Plain(file).load()
    assert data["G"]["state"]["synthesis.b4.const"].shape == (8, 4, 4)


def test_public_pickle_gives_the_expected_image_and_logits():
    golden = Golden("nvlabs_layout_expected")
    snapshot = load_snapshot(GOLDEN / "nvlabs_layout.pkl")
    image = snapshot.G_ema(golden["in/z"], None, noise_mode="const")
    assert relative_error(image, golden["out/img"]) < 1e-4
    assert relative_error(snapshot.D(golden["in/img"], None), golden["out/logits"]) < 1e-4
    assert snapshot.G is not None and snapshot.class_names is None
    assert snapshot.options == {"data": {"path": "data.zip", "mirror": True}}


class Exploit:
    def __reduce__(self):
        import os

        return os.system, ("touch exploited",)


@pytest.mark.parametrize("payload", [Exploit(), {"G": Exploit()}, np.array([Exploit()], dtype=object)])
def test_code_in_a_pickle_does_not_run(tmp_path, monkeypatch, payload):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(payload))
    with pytest.raises(UserError, match=r"evil\.pkl.*not a snapshot that can be opened safely.*system"):
        load_snapshot("evil.pkl")
    assert not (tmp_path / "exploited").exists()


def test_code_in_a_tensor_storage_does_not_run(tmp_path, monkeypatch):
    """The storages of public pickles are pickles of their own."""
    import io

    monkeypatch.chdir(tmp_path)
    inner = io.BytesIO()
    torch.save(Exploit(), inner)

    class Storage:
        def __reduce__(self):
            return torch.storage._load_from_bytes, (inner.getvalue(),)

    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"G": Storage()}))
    with pytest.raises(UserError, match="opened safely"):
        load_snapshot("evil.pkl")
    assert not (tmp_path / "exploited").exists()


def test_files_that_are_no_snapshots(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.pkl"):
        load_snapshot(tmp_path / "nothing.pkl")
    with pytest.raises(UserError, match=r"no network-snapshot-.* in this folder"):
        load_snapshot(tmp_path)
    (tmp_path / "text.pkl").write_text("<html>404</html>")
    with pytest.raises(UserError, match="may be damaged"):
        load_snapshot(tmp_path / "text.pkl")
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(UserError, match="holds no networks"):
        load_snapshot(tmp_path / "list.pkl")
    ArchiveWriter(tmp_path / "data.zip").__enter__().__exit__(None, None, None)
    with pytest.raises(UserError, match=r"zip archive .training images belong to --data."):
        load_snapshot(tmp_path / "data.zip")
    save(tmp_path / "network-snapshot-000001.pkl", networks())
    assert load_snapshot(tmp_path).cur_nimg == 2000  # the newest of a run folder
    save(tmp_path / "whole.pkl", networks())
    (tmp_path / "torn.pkl").write_bytes((tmp_path / "whole.pkl").read_bytes()[:5000])
    with pytest.raises(UserError, match="may be damaged"):
        load_snapshot(tmp_path / "torn.pkl")


def test_a_snapshot_whose_arrays_do_not_fit_is_refused(tmp_path):
    save(tmp_path / "a.pkl", networks())
    data = pickle.loads((tmp_path / "a.pkl").read_bytes())
    data["D"]["state"]["b4.out.bias"] = np.zeros(7, np.float32)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(data))
    with pytest.raises(UserError, match="network D is damaged"):
        load_snapshot(tmp_path / "a.pkl")


def test_newest_snapshot(tmp_path):
    import os

    assert newest_snapshot(tmp_path) is None
    for i, folder in enumerate(["00001-b", "00000-a"]):
        path = tmp_path / folder / "network-snapshot-000004.pkl"
        path.parent.mkdir()
        path.write_bytes(b"")
        os.utime(path, (i, i))
    assert newest_snapshot(tmp_path).parent.name == "00000-a"


def test_download_is_kept_and_failure_names_the_url(tmp_path, monkeypatch):
    import http.server
    import threading

    monkeypatch.setenv("STYLEGAN2_CACHE", str(tmp_path / "cache"))
    save(tmp_path / "a.pkl", networks())

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    assert load_snapshot(f"{url}/a.pkl").cur_nimg == 2000
    with pytest.raises(UserError, match=r"Cannot download .*missing\.pkl.*give the path"):
        load_snapshot(f"{url}/missing.pkl")
    server.shutdown()
    assert load_snapshot(f"{url}/a.pkl").cur_nimg == 2000  # from the cache


def test_full_transfer_says_that_all_matched(tmp_path):
    source, target = networks(), networks()
    save(tmp_path / "a.pkl", source)
    text = resume_weights(load_snapshot(tmp_path / "a.pkl"), target, "a.pkl", allow_partial=False)
    for name in source:
        assert all(map(torch.equal, source[name].state_dict().values(), target[name].state_dict().values()))
        assert f"{name}: {len(source[name].state_dict())} matched, 0 adapted, 0 missing" in text


def test_partial_transfer_is_refused_unless_allowed(tmp_path):
    save(tmp_path / "a.pkl", networks())
    snapshot, bigger = load_snapshot(tmp_path / "a.pkl"), networks(img_resolution=32)
    with pytest.raises(UserError, match=r"--resume.*only in part(.|\n)*missing: synthesis\.b32(.|\n)*--allow-partial"):
        resume_weights(snapshot, bigger, "a.pkl", allow_partial=False)
    assert "synthesis.b32" in resume_weights(snapshot, bigger, "a.pkl", allow_partial=True)
    assert torch.equal(bigger["G"].synthesis.b16.conv0.weight, snapshot.G.synthesis.b16.conv0.weight)


@pytest.mark.parametrize(("old", "new"), [(3, 1), (1, 3)])
def test_transfer_between_gray_and_rgb(old, new):
    """A gray image, as it is or repeated to RGB, gives the same logits; the new image is the gray of the old one."""
    source, target = networks(img_channels=old), networks(img_channels=new)
    for name in ("D", "G"):
        report = transfer(source[name], target[name])
        assert report.adapted and not report.missing
    gray, z = torch.randn(4, 1, 16, 16), torch.randn(4, 8)
    a, b = (net["D"](gray.expand(-1, n, -1, -1)) for net, n in ((source, old), (target, new)))
    assert torch.allclose(a, b, atol=1e-5)
    a, b = (net["G"](z, noise_mode="const").mean(1) for net in (source, target))
    assert torch.allclose(a, b, atol=1e-5)
