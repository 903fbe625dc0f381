import numpy as np
import pytest
from archives import make_images, write_archive
from click.testing import CliRunner
from PIL import Image

from stylegan2_pipeline.augment_sheets import QUANTILES, percentile_sheet
from stylegan2_pipeline.commands.augment import command


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sheets(tmp_path, channels):
    data = write_archive(tmp_path / "data.zip", make_images(3, channels))
    args = [f"--data={data}", f"--outdir={tmp_path / 'out'}", "--augpipe=bgcfnc", "--images=2"]
    result = CliRunner().invoke(command, args, catch_exceptions=False)
    assert result.exit_code == 0
    names = ["augment-percentiles.png", "augment-random.png"]
    assert [line.rsplit("/", 1)[1] for line in result.output.split()] == names
    percentiles, draws = (np.asarray(Image.open(tmp_path / "out" / name)) for name in names)
    rows = (15 if channels > 1 else 13) + 1  # operations (of gray there is no hue and saturation) and all together
    assert percentiles.shape[0] == 18 + rows * 68 and draws.shape[0] == 18 + 2 * 68
    for path in (tmp_path / "out").iterdir():
        before = path.read_bytes()
        CliRunner().invoke(command, args)
        assert path.read_bytes() == before


def test_the_sheet_holds_the_original_where_nothing_is_done():
    image = make_images(1, 3)[0]
    sheet = np.asarray(percentile_sheet(image, {"brightness": 1.0}))
    left = sheet.shape[1] - len(QUANTILES) * 68
    column = left + 68 * QUANTILES.index(0.5)
    tile = sheet[18 : 18 + 64, column : column + 64]
    np.testing.assert_array_equal(tile[4::8, 4::8], image.transpose(1, 2, 0))


def test_missing_data_is_told(tmp_path):
    result = CliRunner().invoke(command, [f"--data={tmp_path / 'none.zip'}", f"--outdir={tmp_path / 'out'}"])
    assert result.exit_code == 2 and "--data" in result.output
    assert not (tmp_path / "out").exists()
