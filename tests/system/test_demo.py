"""The demo, with a hundredth of its training, writes its report."""

from pathlib import Path

import pytest

from custom.errors import InputError
from scripts.demo import demo


@pytest.mark.slow
@pytest.mark.parametrize(("bundle", "mean"), [("unetr_btcv", "mean of 13"), ("unetr_brats", "mean of 3")])
def test_demo_writes_a_self_contained_report(
    bundle: str, mean: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    demo(bundle, output_dir=str(tmp_path), cases=12, budget=0.01)
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "http" not in page.split("</style>")[1]  # nothing is fetched
    assert "unseen phantoms self pre-training changes mean Dice by" in page
    assert mean in page and mean in capsys.readouterr().out


def test_a_bundle_without_a_demo_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="BUNDLE to one of unetr_btcv, unetr_brats"):
        demo("vit", output_dir=str(tmp_path))
