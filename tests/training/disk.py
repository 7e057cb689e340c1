"""What the tests of full disks share."""

import os
import pathlib
import time


def wait_until_quiet(folder: pathlib.Path) -> None:
    """Returns once nothing in a folder comes or goes: a failed save's threads go on for a while, and clear up."""
    before = None
    while before != (before := sorted(os.walk(folder))):
        time.sleep(0.5)
