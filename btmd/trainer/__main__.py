"""``python -m btmd.trainer <job folder> --attempt N``: one attempt at one job, told through the job's spool."""

import argparse
import contextlib
import sys
import traceback
from pathlib import Path

from btmd.frames import FrameWriter
from btmd.job_folder import JobFolder
from btmd.trainer.process import (
    DiskReserve,
    empty_temporary_folder,
    hold_lock,
    keep_large_blocks_apart,
    prepare_environment,
)
from btmd.trainer.stop import SignalStop, StopRequested

EXIT_DONE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Run one attempt; 0 when it finished or stopped on request, 1 when it failed, 2 when it could not begin."""
    parser = argparse.ArgumentParser(prog="python -m btmd.trainer", description=__doc__)
    parser.add_argument("folder", type=Path, help="the job folder, with its plan")
    parser.add_argument("--attempt", type=int, required=True, help="counted from 1; names the spool")
    given = parser.parse_args(arguments)
    folder = JobFolder(given.folder.resolve())
    stop = SignalStop(folder)
    stop.install()
    if not folder.plan_path.is_file():
        print(f"{folder.path} is not a job folder: it has no plan.", file=sys.stderr)
        return EXIT_USAGE
    if not hold_lock(folder):
        print("Another trainer is at work in this job folder.", file=sys.stderr)
        return EXIT_USAGE
    prepare_environment(folder)
    return _run_attempt(folder, given.attempt, stop)


def _run_attempt(folder: JobFolder, attempt: int, stop: SignalStop) -> int:
    from btmd.trainer.reporter import Reporter

    reserve = DiskReserve(folder)
    reporter: Reporter | None = None
    try:
        folder.write_pid(attempt)
        plan = folder.read_plan()
        keep_large_blocks_apart(plan)
        reporter = Reporter(FrameWriter(folder.spool_path(attempt)), tick_every_s=plan.tick_every_s)
        reporter.stage("preparing", "Starting: reading the data and loading the training libraries.")
        reserve.take()
        from btmd.trainer.preparation import load_material_beside_imports

        material = load_material_beside_imports(folder, plan, stop)
        from btmd.trainer.loop import train

        train(folder, plan, stop, reporter, material)
    except StopRequested as request:
        assert reporter is not None
        reporter.stopped(request.control)
    except BaseException as error:  # noqa: BLE001 - whatever it was, the person is told which kind of failure
        from btmd.trainer.failures import classify

        # The reserve makes room for this one frame, and it goes before the traceback, which may fill the disk again.
        reserve.give_back()
        if reporter is not None:
            reporter.failed(classify(error))
        with contextlib.suppress(OSError):
            traceback.print_exception(error)
        return EXIT_FAILED
    finally:
        empty_temporary_folder(folder)
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
