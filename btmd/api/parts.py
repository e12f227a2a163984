"""What the operations work with; made by the daemon, handed to every request."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import anyio
from msgspec import Struct, field

from btmd.activity import Activity
from btmd.config import Config
from btmd.domain.event import Actor
from btmd.fair_turns import FairTurns
from btmd.jobs.curves import CurveReading

if TYPE_CHECKING:
    from btmd.backups.keeper import Backups
    from btmd.backups.keys import BackupKeys
    from btmd.chat import Chats
    from btmd.command_handler import CommandHandler
    from btmd.history import History
    from btmd.jobs.housekeeping import Housekeeping
    from btmd.jobs.line import Line
    from btmd.jobs.submission import Submission
    from btmd.jobs.turns import Wait
    from btmd.presets.catalogue import PresetCatalogue
    from btmd.registry.anonymising import Anonymising
    from btmd.registry.content import ContentStore
    from btmd.registry.dataset_checks import DatasetChecks
    from btmd.registry.datasets import DatasetAdding
    from btmd.registry.inspector import Inspector
    from btmd.registry.models import ModelAdding
    from btmd.registry.previews import DatasetPreviews
    from btmd.registry.sent_models import SentModels
    from btmd.registry.versions import DatasetVersions
    from btmd.restoring.dataset_erasure import DatasetErasure
    from btmd.restoring.factory_reset import FactoryReset
    from btmd.restoring.restore import Restoring
    from btmd.store.event_log import Store


class Parts(Struct):
    """The daemon's parts as the API may use them. Times in microseconds UTC."""

    config: Config
    store: "Store"
    handler: "CommandHandler"
    history: "History"
    restoring: "Restoring"
    backups: "Backups"
    backup_keys: "BackupKeys"
    factory_reset: "FactoryReset"
    erasure: "DatasetErasure"
    contents: "ContentStore"
    model_adding: "ModelAdding"
    sent_models: "SentModels"
    dataset_adding: "DatasetAdding"
    dataset_versions: "DatasetVersions"
    anonymising: "Anonymising"
    dataset_previews: "DatasetPreviews"
    dataset_checks: "DatasetChecks"
    inspector: "Inspector"
    submission: "Submission"
    chats: "Chats"
    presets: "PresetCatalogue"
    daemon: Actor
    clock: Callable[[], int]
    new_id: Callable[[], str]
    stopping: anyio.Event
    line: "Line"
    housekeeping: "Housekeeping"
    waits: Mapping[str, "Wait"]
    """By job: what it waits for."""
    troubles: Mapping[str, str]
    """What does not work just now, in words, by what it is about."""
    notices: Sequence[str] = ()
    """What a person should know of this start, in words."""
    mend_views: Callable[[str], None] = lambda reason: None
    """Told why a view could not be read."""
    asides: Mapping[str, str] = field(default_factory=dict)
    """What a person may want to know while everything works, in words, by what it is about."""
    activity: Activity = field(default_factory=Activity)
    curve_reading: CurveReading = field(default_factory=CurveReading)
    computing: FairTurns = field(default_factory=lambda: FairTurns(2))
    """Plans for many models or presets at once, which take a processor for seconds and change nothing."""
    exporting: FairTurns = field(default_factory=lambda: FairTurns(1))
    """One export at a time: each may take the memory of a whole model; and users take turns."""
    keyed: WeakValueDictionary[tuple[int, str], anyio.Lock] = field(default_factory=WeakValueDictionary)
    """By user and Idempotency-Key: whoever does now what the key asks for."""
