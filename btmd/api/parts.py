"""What the operations work with; made by the daemon, handed to every request."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from btmd.config import Config
from btmd.domain.event import Actor

if TYPE_CHECKING:
    from btmd.backup_keys import BackupKeys
    from btmd.backups import Backups
    from btmd.chat import Chats
    from btmd.command_handler import CommandHandler
    from btmd.content import ContentStore
    from btmd.datasets import DatasetAdding
    from btmd.factory_reset import FactoryReset
    from btmd.history import History
    from btmd.models import ModelAdding
    from btmd.preset_catalogue import PresetCatalogue
    from btmd.restoring import Restoring
    from btmd.store.event_log import Store
    from btmd.submission import Submission


@dataclass
class Activity:
    """When somebody last asked for something, so that a daemon nobody needs can end."""

    under_way: int = 0
    last_us: int = 0


@dataclass
class Parts:
    """The daemon's parts as the API may use them. Times in microseconds UTC."""

    config: Config
    store: "Store"
    handler: "CommandHandler"
    history: "History"
    restoring: "Restoring"
    backups: "Backups"
    backup_keys: "BackupKeys"
    factory_reset: "FactoryReset"
    contents: "ContentStore"
    model_adding: "ModelAdding"
    dataset_adding: "DatasetAdding"
    submission: "Submission"
    chats: "Chats"
    presets: "PresetCatalogue"
    daemon: Actor
    clock: Callable[[], int]
    new_id: Callable[[], str]
    stopping: anyio.Event
    waiting_for: Mapping[str, str]
    """By job: what a queued job waits for, in words."""
    troubles: Mapping[str, str]
    """What does not work just now, in words, by what it is about."""
    notices: Sequence[str] = ()
    """What a person should know of this start, in words."""
    activity: Activity = field(default_factory=Activity)
