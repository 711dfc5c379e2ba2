"""Resources of a piece of work: against work whose cost is known."""

import time

import numpy as np
import pytest

from quant_assets.common.logging import machine, resources_measured


def test_a_megabyte_that_is_held_is_seen_after_it_was_let_go() -> None:
    with resources_measured() as use:
        held = np.ones(25_000_000)  # 200 MB, every page written
        time.sleep(0.2)
        del held
    assert 190 <= use.peak_rss_megabytes - use.start_rss_megabytes <= 300
    assert use.cores >= 1


def test_work_takes_processor_time_and_sleep_only_wall_time() -> None:
    with resources_measured() as asleep:
        time.sleep(0.3)
    with resources_measured() as busy:
        end = time.process_time() + 0.3
        while time.process_time() < end:
            pass
    assert asleep.wall_seconds >= 0.3
    assert asleep.cpu_seconds < 0.15
    assert busy.cpu_seconds >= 0.25


def test_work_that_fails_is_measured_and_still_fails() -> None:
    with pytest.raises(ZeroDivisionError), resources_measured() as use:
        1 / 0  # noqa: B018
    assert use.wall_seconds > 0


def test_a_machine_says_its_memory_and_cores() -> None:
    facts = machine()
    assert float(facts["memory_megabytes"]) > 100
    assert int(facts["logical_cores"]) >= 1
