"""The soft limit of open files, raised as far as it may be."""

import resource
import subprocess
import sys

import pytest

from tracking_shared.serving import ENOUGH, raised_limit


@pytest.mark.parametrize(
    ("soft", "hard", "raised"),
    [
        (1024, 4096, 4096),
        (1024, 1_048_576, ENOUGH),
        (1024, resource.RLIM_INFINITY, ENOUGH),
        (200_000, 1_048_576, 200_000),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, resource.RLIM_INFINITY),
    ],
)
def test_it_is_raised_to_what_is_enough_or_allowed_and_never_lowered(
    soft: int, hard: int, raised: int
) -> None:
    assert raised_limit(soft, hard) == raised


def test_a_process_may_open_as_many_as_its_hard_limit_says() -> None:
    program = (
        "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (100, 3000));"
        "from tracking_shared.serving import raise_open_files_limit as f; f(); "
        "print(r.getrlimit(r.RLIMIT_NOFILE))"
    )
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert said.stdout == "(3000, 3000)\n"
