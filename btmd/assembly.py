"""All parts of a daemon, put together from those that need none of the others on; nothing runs yet."""

import base64
import secrets
from collections.abc import Callable

import anyio

from btmd.api.door import Door
from btmd.api.parts import Parts
from btmd.backups.child import BackupChild
from btmd.backups.keeper import Backups
from btmd.backups.keys import BackupKeys
from btmd.backups.known import KnownBackups
from btmd.backups.schedule import BackupSchedule
from btmd.chat import Chats
from btmd.command_handler import CommandHandler
from btmd.condensing import Condensing
from btmd.config import Config
from btmd.domain.event import Actor
from btmd.domain.hardware import Hardware
from btmd.event_journal import EventJournal
from btmd.hardware import probe
from btmd.history import History
from btmd.jobs.device_locks import DeviceLocks
from btmd.jobs.housekeeping import Housekeeping
from btmd.jobs.line import Line
from btmd.jobs.notifying import Notifying
from btmd.jobs.recovering import Recovering
from btmd.jobs.scheduler import Scheduler
from btmd.jobs.staying_awake import StayingAwake
from btmd.jobs.submission import Submission
from btmd.jobs.supervisor import Supervisor
from btmd.jobs.watching import Watching
from btmd.jobs.ways_out import WaysOut
from btmd.presets.catalogue import PresetCatalogue
from btmd.presets.reading import load_builtin_presets
from btmd.presets.watcher import PresetsWatcher
from btmd.registry.anonymising import Anonymising
from btmd.registry.content import ContentStore
from btmd.registry.content_sweep import ContentSweep
from btmd.registry.contents_in_use import ContentsInUse
from btmd.registry.dataset_checks import DatasetChecks
from btmd.registry.datasets import DatasetAdding
from btmd.registry.inspector import Inspector
from btmd.registry.model_places import ModelPlaces
from btmd.registry.model_upload import ModelUploads
from btmd.registry.models import ModelAdding
from btmd.registry.previews import DatasetPreviews
from btmd.registry.sent_models import SentModels
from btmd.registry.sources import SourceReading
from btmd.registry.versions import DatasetVersions
from btmd.restoring.dataset_erasure import DatasetErasure
from btmd.restoring.factory_reset import FactoryReset
from btmd.restoring.falling_back import FallingBack
from btmd.restoring.restore import Restoring, registered_contents
from btmd.restoring.view_mending import ViewMending
from btmd.settings.confirmations import Confirmations
from btmd.settings.watcher import SettingsWatcher
from btmd.store.event_log import Store


def new_event_id() -> str:
    return secrets.token_hex(16)


def new_job_id() -> str:
    """Ten characters of lower-case base32: short enough to type, 50 bits wide."""
    return base64.b32encode(secrets.token_bytes(7))[:10].decode().lower()


class Assembly:
    """The parts that run by themselves, and in ``parts`` those that answer requests."""

    def __init__(
        self,
        *,
        config: Config,
        store: Store,
        handler: CommandHandler,
        actor: Actor,
        boot_id: str,
        clock: Callable[[], int],
        stopping: anyio.Event,
        troubles: dict[str, str],
    ) -> None:
        self._clock = clock
        self._config, self._store, self._handler, self._actor = config, store, handler, actor
        self._troubles = troubles
        self._contents = ContentStore(config.content_dir)
        self._contents.create()
        self._presets = PresetCatalogue(store, load_builtin_presets())
        self._history = History(store, self._clock)
        self.in_use = ContentsInUse(store, self._contents)
        self._submitting = anyio.Lock()
        self._restoring = Restoring(store, handler, self._history, self._contents, self.in_use, new_event_id)
        self._child = BackupChild(config, store.store_id, self._clock, handler)
        self._backups = self._make_backups()
        self.supervisor = self._make_supervisor(boot_id)
        self._asides: dict[str, str] = {}
        self.scheduler = Scheduler(
            store=store,
            handler=handler,
            state_dir=config.state_dir,
            jobs_dir=config.jobs_dir,
            locks=DeviceLocks(config.device_locks_dir),
            start=self._start,
            busy=lambda: self.supervisor.busy,
            actor=actor,
            clock=clock,
        )
        self.event_journal = EventJournal(store)
        self.door = Door(store, handler, config.socket_path, troubles, ours=not config.systemd.listen_fds)
        self.staying_awake = self._make_staying_awake()
        self.supervisor.on_freed = self._freed
        self.watching = self._make_watching()
        self.housekeeping = Housekeeping(
            store=store,
            handler=handler,
            jobs_dir=config.jobs_dir,
            cache_dir=config.cache_dir,
            backup_turn=self._child.turn,
            busy=lambda: self.supervisor.busy,
            actor=actor,
            asides=self._asides,
        )
        self.notifying = Notifying(
            store=store,
            handler=handler,
            jobs_dir=config.jobs_dir,
            actor=actor,
            clock=clock,
            troubles=troubles,
        )
        self.confirmations = Confirmations(store, handler, self._clock, new_event_id, actor)
        self.settings_watcher = self._make_settings_watcher()
        self.presets_watcher = self._make_presets_watcher()
        self.falling_back = FallingBack(
            store=store,
            handler=handler,
            history=self._history,
            restoring=self._restoring,
            actor=actor,
            new_id=new_event_id,
            marker=config.failed_start_path,
        )
        self.mending = ViewMending(store=store, handler=handler, actor=actor, troubles=troubles)
        self.parts = self._make_parts(stopping)
        self.recovering = self._make_recovering()
        self.sweep = ContentSweep(
            in_use=self.in_use, registered=lambda: registered_contents(store), backup_turn=self._child.turn
        )
        self.parts.activity.last_us = self._clock()
        self.condensing = Condensing(
            store=store,
            handler=handler,
            clock=self._clock,
            busy=lambda: self.supervisor.busy,
            asked=lambda: self.parts.activity.under_way > 0,
            troubles=troubles,
        )
        self.backup_schedule = BackupSchedule(
            store=store,
            handler=handler,
            backups=self._backups,
            busy=lambda: self.supervisor.busy,
            clock=self._clock,
            daemon=actor,
            activity=self.parts.activity,
            troubles=troubles,
        )

    def _start(self, job_id: str, device: str, device_lock: int) -> None:
        self.supervisor.start(job_id, device, device_lock)
        self.staying_awake.wake()

    def _freed(self) -> None:
        self.scheduler.wake()
        self.staying_awake.wake()

    def _make_staying_awake(self) -> StayingAwake:
        return StayingAwake(
            store=self._store,
            handler=self._handler,
            jobs_dir=self._config.jobs_dir,
            actor=self._actor,
            busy=lambda: self.supervisor.busy,
            hardware=lambda: probe(self._config.state_dir),
            intervene=self.supervisor.intervene,
            on_woke=self.scheduler.wake,
            asides=self._asides,
        )

    def _make_supervisor(self, boot_id: str) -> Supervisor:
        return Supervisor(
            store=self._store,
            handler=self._handler,
            jobs_dir=self._config.jobs_dir,
            answers_keys_dir=self._config.answers_keys_dir,
            contents=self._contents,
            actor=self._actor,
            boot_id=boot_id,
            troubles=self._troubles,
        )

    def _make_recovering(self) -> Recovering:
        def hardware() -> Hardware:
            return probe(self._config.state_dir)

        return Recovering(
            store=self._store,
            handler=self._handler,
            jobs_dir=self._config.jobs_dir,
            ways_out=WaysOut(
                store=self._store,
                handler=self._handler,
                datasets=self.parts.dataset_adding,
                presets=self._presets,
                hardware=hardware,
            ),
            device_is_there=lambda: hardware().best_gpu is not None,
            actor=self._actor,
            clock=self._clock,
            troubles=self._troubles,
        )

    def _make_watching(self) -> Watching:
        return Watching(
            store=self._store,
            handler=self._handler,
            jobs_dir=self._config.jobs_dir,
            actor=self._actor,
            clock=self._clock,
            busy=lambda: self.supervisor.busy,
            intervene=self.supervisor.intervene,
            troubles=self._troubles,
        )

    def _make_settings_watcher(self) -> SettingsWatcher:
        return SettingsWatcher(
            store=self._store,
            handler=self._handler,
            history=self._history,
            path=self._config.settings_path,
            memory_path=self._config.settings_memory_path,
            new_id=new_event_id,
            troubles=self._troubles,
            require_preset=self._presets.require_choice,
        )

    def _make_presets_watcher(self) -> PresetsWatcher:
        return PresetsWatcher(
            store=self._store,
            handler=self._handler,
            catalogue=self._presets,
            folder=self._config.presets_dir,
            memory_path=self._config.presets_memory_path,
            new_id=new_event_id,
            troubles=self._troubles,
        )

    def _make_backups(self) -> Backups:
        known = KnownBackups(
            own_folder=str(self._config.backups_dir),
            store=self._store,
            handler=self._handler,
            child=self._child,
            daemon=self._actor,
            troubles=self._troubles,
        )
        return Backups(
            config=self._config,
            store=self._store,
            handler=self._handler,
            contents=self._contents,
            known=known,
            child=self._child,
            daemon=self._actor,
            troubles=self._troubles,
        )

    def _make_parts(self, stopping: anyio.Event) -> Parts:
        config, store, handler, contents = self._config, self._store, self._handler, self._contents
        inspector = Inspector()
        in_use = self.in_use
        sources = SourceReading(store, inspector, contents, in_use)
        places = ModelPlaces(store, handler, config.models_dir)
        datasets = DatasetAdding(store, handler, inspector, contents, in_use, sources, config.cache_dir)
        versions = DatasetVersions(handler, inspector, contents, in_use, sources)
        anonymising = Anonymising(inspector, datasets, versions, contents, in_use, config.cache_dir)
        return Parts(
            config=config,
            store=store,
            handler=handler,
            history=self._history,
            restoring=self._restoring,
            backups=self._backups,
            backup_keys=BackupKeys(store=store, handler=handler, child=self._child, backups=self._backups),
            factory_reset=self._make_factory_reset(),
            erasure=self._make_erasure(),
            contents=contents,
            model_adding=ModelAdding(store, handler, inspector, config.models_dir, config.hub_cache_dir, places=places),
            sent_models=SentModels(store, handler, inspector, places, ModelUploads(config.models_dir)),
            dataset_adding=datasets,
            dataset_versions=versions,
            anonymising=anonymising,
            dataset_previews=DatasetPreviews(inspector, datasets, config.cache_dir),
            dataset_checks=DatasetChecks(inspector, datasets, versions, anonymising, config.cache_dir),
            inspector=inspector,
            submission=self._make_submission(datasets, anonymising),
            chats=Chats(),
            presets=self._presets,
            daemon=self._actor,
            clock=self._clock,
            new_id=new_event_id,
            stopping=stopping,
            line=Line(store, handler),
            waits=self.scheduler.waits,
            troubles=self._troubles,
            notices=self.falling_back.notices,
            asides=self._asides,
            housekeeping=self.housekeeping,
            mend_views=self.mending.want,
        )

    def _make_submission(self, datasets: DatasetAdding, anonymising: Anonymising) -> Submission:
        return Submission(
            store=self._store,
            handler=self._handler,
            datasets=datasets,
            anonymising=anonymising,
            presets=self._presets,
            state_dir=self._config.state_dir,
            jobs_dir=self._config.jobs_dir,
            submitting=self._submitting,
            new_job_id=new_job_id,
            clock=self._clock,
        )

    def _make_factory_reset(self) -> FactoryReset:
        return FactoryReset(
            config=self._config,
            store=self._store,
            handler=self._handler,
            history=self._history,
            restoring=self._restoring,
            backups=self._backups,
            child=self._child,
            contents=self._contents,
            in_use=self.in_use,
            daemon=self._actor,
            new_id=new_event_id,
            troubles=self._troubles,
        )

    def _make_erasure(self) -> DatasetErasure:
        return DatasetErasure(
            config=self._config,
            store=self._store,
            handler=self._handler,
            in_use=self.in_use,
            submitting=self._submitting,
            child=self._child,
            backups_folder=lambda: self._backups.known.own_folder,
            daemon=self._actor,
            troubles=self._troubles,
        )
