"""A daemon's life: open, recover, run, close; each step can be taken by itself."""

import logging
import os
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path

import anyio
from msgspec.structs import replace

from btmd import __version__
from btmd.api.application import build_application
from btmd.api.peer import own_actor
from btmd.api.server import HttpServer, activated_sockets, bind_socket
from btmd.assembly import Assembly, new_event_id
from btmd.command_handler import CommandHandler
from btmd.config import Config
from btmd.domain.commands import DECIDERS
from btmd.domain.machine import StartDaemon, StopDaemon
from btmd.errors import BtmdError, Damaged, StoreFailed, ViewWrong
from btmd.jobs.draining import drain
from btmd.jobs.exporting import forget
from btmd.jobs.unit_status import UnitStatus
from btmd.notify import Notifier
from btmd.projections.dataset import referenced_contents
from btmd.projections.job import unfinished_contents
from btmd.projections.queue import count_going
from btmd.projections.views import ALL_PROJECTIONS
from btmd.reload import reload, set_log_level
from btmd.restoring.before_migration import back_up_before_migration
from btmd.restoring.recovery_hint import recovery_hint, require_database
from btmd.restoring.restore import registered_contents
from btmd.restoring.view_mending import Part
from btmd.state_folder import claim, close_to_others, make_folder
from btmd.store.event_log import Store

log = logging.getLogger("btmd")

STOP_LIMIT_S = 5.0
PROVED_S = 5.0
"""How long a daemon has to have answered before what it started with counts as good."""
MOST_NAMED = 10
LOG_LOOK_S = 5.0
"""How often to see whether the log failed: rarely enough to cost nothing."""


def clock_us() -> int:
    return time.time_ns() // 1000


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Daemon:
    """One daemon on one state folder. ``close`` undoes what ``open`` did, however far it came."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.actor = own_actor()
        self.boot_id = boot_id()
        self.stopping: anyio.Event
        self.store: Store
        self.handler: CommandHandler
        self.assembly: Assembly
        self._listeners: list[socket.socket] = []
        self._notifier = Notifier(config.systemd.notify_socket)
        self._opened = AsyncExitStack()
        self._stop_reason = "asked"
        self._drains = False

    async def open(self) -> None:
        """Lock the folder, take the socket, open the log. Raises what each of them refuses with."""
        config = self.config
        self.stopping = anyio.Event()
        lock = claim(config.state_dir, config.lock_path)
        self._opened.callback(os.close, lock)
        self._close_to_others()
        require_database(config)
        config = self._take_socket()
        try:
            self._before_migration = await back_up_before_migration(config, clock_us)
            self.store = await Store.open(
                config.database_path,
                clock=clock_us,
                boot_id=self.boot_id,
                new_id=new_event_id,
                projections=ALL_PROJECTIONS,
            )
        except Damaged as error:
            error.hint = recovery_hint(config) or error.hint
            raise
        self._opened.push_async_callback(self.store.close)
        self.handler = CommandHandler(self.store, DECIDERS)
        if config.rebuild_projections:
            await self._rebuild()
        troubles: dict[str, str] = {}
        if self.store.unmigrated is not None:
            troubles["migration"] = f"{self.store.unmigrated.reason} {self.store.unmigrated.did}"
        for folder in (config.content_dir, config.jobs_dir, config.models_dir, config.cache_dir):
            moved = make_folder(folder)
            if moved is not None:
                troubles[f"folder {folder.name}"] = f"{folder} was no folder; it was moved to {moved}."
                log.error("%s", troubles[f"folder {folder.name}"])
        # Whoever had asked for them is not waiting any more.
        forget(config.exports_dir, 0)
        self.assembly = Assembly(
            config=config,
            store=self.store,
            handler=self.handler,
            actor=self.actor,
            boot_id=self.boot_id,
            clock=clock_us,
            stopping=self.stopping,
            troubles=troubles,
        )

    def _take_socket(self) -> Config:
        """Listen; returns the configuration with the socket that we then have."""
        if self.config.systemd.listen_fds:
            self._listeners = activated_sockets(self.config.systemd.listen_fds)
            for listener in self._listeners:
                self._opened.callback(listener.close)
            self.config = replace(self.config, socket_path=Path(self._listeners[0].getsockname()))
        else:
            self._listeners = [bind_socket(self.config.socket_path)]
            self._opened.callback(self._leave_socket, self.config.socket_path.stat().st_ino)
        return self.config

    def _close_to_others(self) -> None:
        config = self.config
        try:
            mended = close_to_others(config.state_dir, (config.keys_dir, config.backups_dir))
        except OSError as problem:
            log.error("%s may be open to others: %s", problem.filename or config.state_dir, problem.strerror)
            return
        if mended:
            named = ", ".join(str(path.relative_to(config.state_dir)) for path in mended[:MOST_NAMED])
            more = f" and {len(mended) - MOST_NAMED} more" if len(mended) > MOST_NAMED else ""
            log.warning("others could use what is the owner's alone; they cannot any more: %s%s", named, more)

    async def recover(self) -> None:
        """Set the log's level, remove left-overs, note the start, find running trainers again.

        What keeps this from working is taken back, and it is tried once more.
        """
        await self.assembly.falling_back.before_start()
        while True:
            try:
                await self._recover()
                return
            except Exception as error:
                if not await self.assembly.falling_back.after_failure(error):
                    raise
                log.warning("the start is tried again", exc_info=error)

    async def _recover(self) -> None:
        await self.assembly.confirmations.take_back()
        await set_log_level(self.handler, self.config.log_level)
        await self._sweep_contents()
        await self.assembly.parts.sent_models.at_start()
        for made_before in self._before_migration:
            await self.handler.handle(made_before, actor=self.actor)
        await self.handler.handle(StartDaemon(__version__, self.boot_id, os.getpid()), actor=self.actor)
        await self.assembly.housekeeping.at_start()
        await self.assembly.supervisor.adopt()
        await self.assembly.parts.factory_reset.finish()
        await self.assembly.parts.erasure.finish()

    async def _sweep_contents(self) -> None:
        async with self.store.session() as session:
            referenced = await referenced_contents(session) | await unfinished_contents(session)
        try:
            unshown = self.assembly.parts.contents.unnamed(referenced) & await registered_contents(self.store)
            # Before anything is removed: a damaged view must not cost anybody their data.
            if unshown and not self.assembly.falling_back.views_rebuilt:
                raise ViewWrong("The view of the datasets does not show all that the log registers.")
            removed = self.assembly.parts.contents.sweep(referenced | unshown)
        except OSError as problem:
            log.error("contents that nothing names stay, %s: %s", problem.filename, problem.strerror)
            return
        if removed:
            log.info("removed %d contents that nothing names", len(removed))

    async def run(self, signals: Sequence[signal.Signals] | None = None) -> None:
        """Answer and train until stopped; says ready once it answers. ``signals``: None for those that we know."""
        server = HttpServer(build_application(self.assembly.parts), self.stopping)
        signals = _signals() if signals is None else signals
        async with anyio.create_task_group() as tasks:
            if signals:
                tasks.start_soon(self._listen_to_signals, signals)
            tasks.start_soon(self.assembly.mending.run)
            for name, part, again in self._parts_to_run():
                tasks.start_soon(self.assembly.mending.keep_up, name, part, again)
            tasks.start_soon(self._reopen_failed_log)
            tasks.start_soon(self._prove_good)
            if self.config.systemd.watchdog_s is not None:
                tasks.start_soon(self._answer_watchdog, self.config.systemd.watchdog_s / 2)
            if self.config.idle_exit_s is not None:
                end_when_idle = partial(self._end_when_idle, self.config.idle_exit_s)
                tasks.start_soon(self.assembly.mending.keep_up, "idle exit", end_when_idle)
            tasks.start_soon(self._serve, server)
            self._notify(READY=1, STATUS=f"Listening at {self.config.socket_path}.")
            if self._notifier.present:
                tasks.start_soon(self.assembly.mending.keep_up, "unit status", self._unit_status().run)
            head = self.store.head
            # Kept by the journal, where nobody who rewrites the log can change it.
            log.info(
                "the event log %s ends with event %d of epoch %d, hash %s",
                self.store.store_id,
                head.seq,
                head.epoch,
                head.hash.hex(),
            )
            log.info("ready: listening at %s", self.config.socket_path)
            await self.stopping.wait()
            self._notify(STOPPING=1)
            with anyio.move_on_after(STOP_LIMIT_S - 1):
                await self._served.wait()
            tasks.cancel_scope.cancel()

    def _parts_to_run(self) -> list[tuple[str, Part, Part | None]]:
        """What runs beside the answering, and how it is begun again where that differs."""
        parts = self.assembly

        async def supervise_again() -> None:
            # Whoever followed a trainer is gone; it is found again as after a start.
            await parts.supervisor.adopt()
            await parts.supervisor.run()

        return [
            ("supervisor", parts.supervisor.run, supervise_again),
            ("recovering", parts.recovering.run, None),
            ("scheduler", parts.scheduler.run, None),
            ("chats", parts.parts.chats.run, None),
            ("confirmations", parts.confirmations.run, None),
            ("settings watcher", parts.settings_watcher.run, None),
            ("presets watcher", parts.presets_watcher.run, None),
            ("watching", parts.watching.run, None),
            ("notifying", parts.notifying.run, None),
            ("housekeeping", parts.housekeeping.run, None),
            ("staying awake", parts.staying_awake.run, None),
            ("condensing", parts.condensing.run, None),
            ("sweep", parts.sweep.run, None),
            ("sent models", parts.parts.sent_models.run, None),
            ("door", parts.door.run, None),
            ("event journal", parts.event_journal.run, None),
            ("backup schedule", parts.backup_schedule.run, None),
            ("erasure", parts.parts.erasure.run, None),
        ]

    async def close(self) -> None:
        """Note the stop and let go of everything; trainers are left alone."""
        with anyio.CancelScope(shield=True):
            if hasattr(self, "handler") and not self.store.closed:
                try:
                    with anyio.move_on_after(1):
                        if self.stopping.is_set():
                            await self.assembly.falling_back.came_up()
                        await self.handler.handle(StopDaemon(self._stop_reason), actor=self.actor)
                except BtmdError as error:
                    log.warning("the stop could not be recorded: %s", error.detail)
            await self._opened.aclose()

    async def failed(self, error: Exception) -> None:
        """Leave word for the next start that this one ended by an error."""
        if not hasattr(self, "assembly") or self.store.closed:
            return
        try:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                await self.assembly.falling_back.ended_by(error)
        except (BtmdError, OSError) as problem:
            log.error("why this daemon ended cannot be kept: %s", problem)

    def stop(self, reason: str) -> None:
        """Begin to end: answer what is under way, then leave."""
        if not self.stopping.is_set():
            log.info("stopping: %s", reason)
            self._stop_reason = reason
            self.stopping.set()

    async def _serve(self, server: HttpServer) -> None:
        try:
            await server.serve(sockets=self._listeners)
        finally:
            self._served.set()

    @property
    def _served(self) -> anyio.Event:
        if not hasattr(self, "_served_event"):
            self._served_event = anyio.Event()
        return self._served_event

    async def _listen_to_signals(self, signals: Sequence[signal.Signals]) -> None:
        async with anyio.create_task_group() as tasks:
            with anyio.open_signal_receiver(*signals) as received:
                async for one in received:
                    if one == signal.SIGHUP and not _has_terminal():
                        tasks.start_soon(self.reload)
                    elif one == signal.SIGUSR1:
                        tasks.start_soon(self.drain)
                    else:
                        self.stop(signal.Signals(one).name)

    async def reload(self) -> None:
        """Read anew what a person keeps in files, and the log's level."""
        self._notify(RELOADING=1, MONOTONIC_USEC=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)
        rereading = (self.assembly.settings_watcher.reread, self.assembly.presets_watcher.reread)
        try:
            await reload(self.handler, rereading, self.config.log_level)
        except BtmdError as error:
            log.error("not everything could be read anew: %s", error.detail)
        self._notify(READY=1)

    async def drain(self) -> None:
        """End all trainings with a checkpoint, then the daemon; the trainings go on by themselves with the next one."""
        if self._drains:
            return
        self._drains = True
        self.assembly.scheduler.close()
        under_way = len(self.assembly.supervisor.busy)
        if under_way:
            log.info("stopping: %d trainings save a checkpoint first", under_way)
            self._notify(STATUS="Stopping: the trainings save a checkpoint first.")
        await drain(self.handler, lambda: self.assembly.supervisor.busy, self.actor)
        self.stop("stopped, trainings with a checkpoint")

    def _unit_status(self) -> UnitStatus:
        def tell(line: str) -> None:
            if not self._drains:
                self._notify(STATUS=line)

        return UnitStatus(self.store, self.assembly.scheduler.waits, clock_us, tell)

    async def _rebuild(self) -> None:
        for name, error in (await self.store.rebuild_projections()).items():
            if error is None:
                log.info("rebuilt the view %s", name)
            else:
                log.error("the view %s cannot be rebuilt: %s", name, error)

    async def _prove_good(self) -> None:
        await anyio.sleep(PROVED_S)
        try:
            await self.assembly.falling_back.came_up()
        except BtmdError as error:
            log.warning("that this daemon came up well cannot be noted: %s", error.detail)

    async def _reopen_failed_log(self) -> None:
        """After a failed write or sync the log accepts nothing until it was opened and verified anew."""
        while True:
            await anyio.sleep(LOG_LOOK_S)
            if self.store.health()["writer"] != "failed":
                continue
            try:
                await self.store.reopen()
                log.warning("the event log was opened again after a failure of the storage")
                self.assembly.scheduler.wake()
                await self.assembly.in_use.remove_left()
            except BtmdError as error:
                log.error("the event log cannot be opened again: %s", error.detail)
            except OSError as problem:
                log.error("contents that nothing needs stay, %s: %s", problem.filename, problem.strerror)

    async def _answer_watchdog(self, every_s: float) -> None:
        while True:
            # Through the loop and the writer: a ping that only shows that this task runs would prove nothing.
            try:
                await self.store.round_trip()
                self._notify(WATCHDOG=1)
            except StoreFailed:
                # It is opened again; only where that takes too long the service manager is to step in.
                log.debug("the event log has failed: the service manager is told nothing")
            await anyio.sleep(every_s)

    async def _end_when_idle(self, idle_s: float) -> None:
        activity = self.assembly.parts.activity
        while True:
            async with self.store.session() as session:
                going = await count_going(session)
            # Only now: a request that came and went meanwhile may have begun what was not there yet.
            quiet_s = (clock_us() - activity.last_us) / 1e6
            if going or activity.under_way:
                activity.last_us = clock_us()
            elif quiet_s >= idle_s:
                self.stop(f"nothing to do for {idle_s:g} seconds")
                return
            await anyio.sleep(max(0.2, min(idle_s - quiet_s, 30.0)))

    def _notify(self, **states: str | int) -> None:
        try:
            self._notifier.send(**states)
        except BlockingIOError:
            log.debug("the service manager does not read what it is told")
        except OSError as problem:
            log.warning("the service manager cannot be told: %s", problem)

    def _leave_socket(self, inode: int) -> None:
        for listener in self._listeners:
            listener.close()
        # Only our own: a daemon that came after us may have made another in its place.
        with suppress(FileNotFoundError):
            if self.config.socket_path.stat().st_ino == inode:
                self.config.socket_path.unlink()


def _signals() -> list[signal.Signals]:
    """Those that end us, that which has us read anew, and that which saves the trainings first."""
    chosen = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]
    # That of nohup stays ignored.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        chosen.append(signal.SIGHUP)
    return chosen


def _has_terminal() -> bool:
    """Whether there is one that may hang up, which SIGHUP then says; elsewhere it asks for a reload."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


async def run_daemon(config: Config) -> None:
    """A daemon's whole life, signals included."""
    daemon = Daemon(config)
    try:
        await daemon.open()
        await daemon.recover()
        await daemon.run()
    except Exception as error:
        await daemon.failed(error)
        raise
    finally:
        await daemon.close()
