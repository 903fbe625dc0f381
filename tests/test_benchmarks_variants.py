"""What is compared: variants as they are typed, and what is said to those that cannot be meant."""

import pytest
from click import UsageError
from click.testing import CliRunner
from public_checkout import write_checkout

from benchmarks import sample, train
from benchmarks.variants import parse_variants
from stylegan2_pipeline.config import DataConfig, TrainConfig

CONFIG = TrainConfig(DataConfig("", "", 16, 1, 1))


def parsed(text):
    return parse_variants(text, CONFIG, train.WAYS, None)


def test_settings_and_environment_of_a_variant():
    ours, other, reference, plain = parsed(
        "ours,ours:precision=bf16;networks.channel_max=64;batch=4;loss.r1_gamma=1;optimizer.betas=[0.0,0.9];"
        "env.OMP_NUM_THREADS=1;track=[],reference-ops,plain:ema_rampup=0.1")
    assert ours.config == CONFIG and not ours.env
    assert (other.config.precision, other.config.networks.channel_max, other.config.batch) == ("bf16", 64, 4)
    assert other.config.loss.r1_gamma == 1 and isinstance(other.config.loss.r1_gamma, float)
    assert other.config.optimizer.betas == (0.0, 0.9) and other.config.track == ()
    assert other.env == {"OMP_NUM_THREADS": "1"} and other.config.data == CONFIG.data
    assert reference.env == {"STYLEGAN2_OPS": "reference"} and plain.config.ema_rampup == 0.1


@pytest.mark.parametrize(("text", "said"), [
    (",", "names nothing to measure. There is: ours"),
    ("mine", "there is no mine; there is: ours, reference-ops"),
    ("batches", "there is no batches"),
    ("ours:precision", "precision has no value"),
    ("ours:colour=1", "there is no setting colour; there is: data, networks"),
    ("ours:networks=1", "networks is several settings: networks.z_dim"),
    ("ours:networks.depth=1", "there is no setting depth"),
    ("ours:batch=many", "batch is now 32, and many is of another kind"),
    ("nvlabs", "where --reference names a checkout"),
])
def test_variants_that_cannot_be_meant(text, said):
    with pytest.raises(UsageError) as error:
        parsed(text)
    assert "--variants" in error.value.message and said in error.value.message


@pytest.mark.parametrize(("command", "args", "said"), [
    (train, ["--resolution=20"], "--resolution=20 is no power of two from 8"),
    (train, ["--resolution=4"], "--resolution=4 is no power"),
    (train, ["--resolution=64", "--cbase=32"], "--cbase=32 leaves no channels"),
    (train, ["--batch=6", "--batch-gpu=4"], "--batch-gpu=4 does not divide"),
    (train, ["--precision=fp16"], "--precision=fp16 needs a CUDA device"),
    (train, ["--device=tpu"], "--device=tpu cannot be used here"),
    (train, ["--variants=mine"], "there is no mine"),
    (train, ["--save=/nowhere/rows.json"], "--save=/nowhere/rows.json: there is no folder /nowhere"),
    (train, ["--reference=/nowhere"], "--reference=/nowhere: there is no such folder. git clone"),
    (sample, ["--batches=1,none"], "--batches=1,none: write numbers from 1"),
    (sample, ["--batches=0"], "--batches=0: write numbers from 1"),
    (sample, ["--variants=train"], "there is no train"),
])
def test_options_that_cannot_be_meant(command, args, said):
    result = CliRunner().invoke(command.main, ["--device=cpu", *args])
    assert result.exit_code == 2 and said in " ".join(result.output.split())


def test_a_folder_that_is_no_checkout(tmp_path):
    write_checkout(tmp_path)
    (tmp_path / "training" / "networks.py").unlink()
    result = CliRunner().invoke(train.main, ["--device=cpu", f"--reference={tmp_path}"])
    assert result.exit_code == 2
    assert f"--reference={tmp_path} is no checkout" in result.output and "training/networks.py" in result.output


def test_a_profile_needs_our_own_code(tmp_path):
    write_checkout(tmp_path)
    args = ["--device=cpu", f"--reference={tmp_path}", "--variants=nvlabs", "--profile=traces"]
    result = CliRunner().invoke(train.main, args)
    assert result.exit_code == 2 and "--profile shows our own code" in result.output
