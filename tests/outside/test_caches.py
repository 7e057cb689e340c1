"""What befalls a user's cache folder: with every kind of it the results are the same, and nothing stops the run."""

import concurrent.futures
import json
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import types

import jax
import pytest
import tensorflow_datasets as tfds

from negot_jax import cache
from negot_jax import catalog as cat
from negot_jax.catalog import amazon_history_price as ahp
from negot_jax.language import grammar
from tests.outside.test_catalogs import ROW

TOKENS = [b"", b"Action: ", b"[BUY]", b" $", *(bytes([i]) for i in range(256))]


@pytest.fixture(autouse=True)
def _forget_temporary():
    cache._temporary.cache_clear()
    yield
    cache._temporary.cache_clear()


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"XDG_CACHE_HOME": "{}/xdg", "HOME": "{}/home"}, "xdg"),
        ({"XDG_CACHE_HOME": "", "HOME": "{}/home"}, "home/.cache"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "{}/home"}, "home/.cache"),
        ({"HOME": "{}/home"}, "home/.cache"),
    ],
)
def test_the_folder_is_that_of_the_xdg_specification(variables, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    assert cache.folder("grammar") == tmp_path / folder / "negot_jax/grammar"
    assert [path.name for path in tmp_path.iterdir()] == [folder.split("/")[0]]


def _no_home(tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # As for a user without an entry in passwd.
    monkeypatch.delenv("HOME")


def _empty_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "")


def _home_is_a_file(tmp_path, monkeypatch):
    (tmp_path / "home").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def _home_is_read_only(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/proc")  # Not even root can make a folder there.


@pytest.mark.parametrize("befall", [_no_home, _empty_home, _home_is_a_file, _home_is_read_only])
def test_without_a_cache_the_folder_is_temporary_and_told_of_once(befall, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    befall(tmp_path, monkeypatch)
    folders = [cache.folder(name) for name in ("grammar", "tfds", "grammar")]
    (folders[0] / "written").write_text("")
    assert folders[0] == folders[2] != folders[1] and tmp_path not in folders[0].parents
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "XDG_CACHE_HOME" in line
    shutil.rmtree(folders[0].parent)


def test_a_temporary_folder_goes_with_its_process(tmp_path):
    code = "from negot_jax import cache; print(cache.folder('grammar'))"
    environment = {**os.environ, "XDG_CACHE_HOME": "/proc"}
    folder = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert folder.stdout and not pathlib.Path(folder.stdout.strip()).exists()


def _damage(path: pathlib.Path, how: str) -> None:
    content = path.read_bytes()
    middle = len(content) // 2
    path.unlink()
    if how == "a folder in its place":
        path.mkdir()
    elif how != "deleted":
        flipped = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
        path.write_bytes({"empty": b"", "half": content[:middle], "flipped": flipped}[how])


DAMAGES = ("deleted", "empty", "half", "flipped")


def _same(tables, others) -> bool:
    leaves = zip(jax.tree.leaves(tables), jax.tree.leaves(others), strict=True)
    return all(a.dtype == b.dtype and (a == b).all() for a, b in leaves)


@pytest.mark.parametrize("how", [*DAMAGES, "a folder in its place"])
def test_a_damaged_grammar_is_built_again(how, tmp_path):
    built = grammar.load(TOKENS, tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    _damage(file, how)
    assert _same(grammar.load(TOKENS, tmp_path), built)
    assert list(tmp_path.iterdir()) == [file]
    assert file.is_dir() or len(file.read_bytes()) == len(whole) and _same(grammar._read(file), built)


def test_a_grammar_that_cannot_be_stored_is_built_and_leaves_nothing(tmp_path, monkeypatch):
    def full(file, *arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(grammar.np, "savez", full)
    assert _same(grammar.load(TOKENS, tmp_path), grammar.build(TOKENS))
    assert not list(tmp_path.iterdir())
    grammar.load(TOKENS, pathlib.Path("/proc/no"))


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o002])
def test_files_have_the_permissions_of_the_umask(umask, tmp_path):
    before = os.umask(umask)
    try:
        with cache.replacing(tmp_path / "file") as part:
            part.write_bytes(b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask


def test_writers_at_once_leave_one_whole_file(tmp_path):
    def write(i):
        with cache.replacing(tmp_path / "file") as part:
            part.write_bytes(bytes([i]) * 100_000)

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(32)))
    assert len(set((tmp_path / "file").read_bytes())) == 1 and len(list(tmp_path.iterdir())) == 1


@pytest.fixture
def downloads(tmp_path, monkeypatch):
    """Lets the pinned download be one file of two products; returns a list that grows with every download."""
    made, rows = [], [ROW, ROW | {"title": "Desk", "description": "Seats one."}]
    source = tmp_path / "source"
    source.mkdir()
    (source / "other.json").write_text(json.dumps(rows))

    def download(manager, urls):
        made.append(urls)
        return {"other.json": source / "other.json"}

    monkeypatch.setattr(tfds.download.DownloadManager, "download", download)
    monkeypatch.setattr(ahp.requests, "head", lambda url, timeout: None)
    monkeypatch.setattr(ahp, "_DIGEST", cat.digest(cat.load("amazon_history_price", source)))
    return made


def _load(folder: pathlib.Path) -> str:
    return cat.digest(cat.load("amazon_history_price", cache_dir=folder))


def test_a_download_is_made_once_and_read_without_tensorflow(downloads, tmp_path, capfd):
    assert _load(tmp_path / "new") == _load(tmp_path / "new") == ahp._DIGEST
    assert len(downloads) == 1 and "tensorflow" not in sys.modules
    assert list((tmp_path / "new").rglob("*.array_record*")) and len(list((tmp_path / "new").iterdir())) == 1
    out, err = capfd.readouterr()
    assert out == "downloading AmazonHistoryPrice: 18 files, 2.4 MB\n" and not err


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_dataset_is_built_again(how, downloads, tmp_path):
    folder = tmp_path / "cache"
    _load(folder)
    for name in sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()):
        _damage(folder / name, how)
        assert _load(folder) == ahp._DIGEST, name
        before = len(downloads)
        assert _load(folder) == ahp._DIGEST and len(downloads) == before, name  # It was mended.
        assert [path.name for path in folder.iterdir()] == ["amazon_history_price"]


def test_a_dataset_is_not_kept_without_a_cache(downloads, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc")
    assert cat.digest(cat.load("amazon_history_price")) == ahp._DIGEST


def test_a_failed_download_names_the_way_out(tmp_path, monkeypatch):
    def offline(url, timeout):
        raise ahp.requests.ConnectionError("no route to host")

    monkeypatch.setattr(ahp.requests, "head", offline)
    with pytest.raises(ConnectionError, match="no route to host.*\n.*data_dir"):
        _load(tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize(
    ("where", "set_before", "told"),
    [
        (None, None, "negot_jax/compiled"),
        (None, "/elsewhere", None),
        ("gs://bucket/compiled", "/elsewhere", "gs://bucket/compiled"),
        ("", None, None),
    ],
)
def test_compiled_programs_are_kept_unless_that_is_turned_off(where, set_before, told, tmp_path, monkeypatch):
    kept = {}
    config = types.SimpleNamespace(jax_compilation_cache_dir=set_before, update=kept.__setitem__)
    monkeypatch.setattr(cache, "jax", types.SimpleNamespace(config=config))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache.keep_compiled(where)
    assert bool(kept) == (told is not None)
    assert told is None or told in kept["jax_compilation_cache_dir"]
