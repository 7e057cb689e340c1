"""A cloud for each test."""

import pytest

from tests.launch.cloud import Cloud


@pytest.fixture
def cloud(tmp_path, monkeypatch, capfd):
    return Cloud(tmp_path / "cloud", monkeypatch, capfd)
