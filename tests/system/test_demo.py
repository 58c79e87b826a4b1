"""The demo, with a hundredth of its training, writes its report."""

from pathlib import Path

import pytest

from scripts.demo import demo


@pytest.mark.slow
def test_demo_writes_a_self_contained_report(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    demo(output_dir=str(tmp_path), cases=12, budget=0.01)
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "http" not in page.split("</style>")[1]  # nothing is fetched
    assert "unseen phantoms self pre-training changes mean Dice by" in page
    assert "mean of 13" in capsys.readouterr().out
