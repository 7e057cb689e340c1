import os, pathlib
def folder(name):
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "negot_jax" / name
