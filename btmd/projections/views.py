"""Every view there is."""

from btmd.projections.backup import BACKUPS_VIEW
from btmd.projections.dataset import DATASETS_VIEW
from btmd.projections.forecast import FORECASTS_VIEW
from btmd.projections.job_view import JOBS_VIEW
from btmd.projections.model import MODELS_VIEW
from btmd.projections.preset import PRESETS_VIEW
from btmd.projections.queue import QUEUE_VIEW
from btmd.projections.settings import SETTINGS_VIEW
from btmd.projections.spool import SPOOL_VIEW
from btmd.projections.warning import WARNINGS_VIEW

ALL_PROJECTIONS = (
    SETTINGS_VIEW,
    PRESETS_VIEW,
    MODELS_VIEW,
    DATASETS_VIEW,
    JOBS_VIEW,
    QUEUE_VIEW,
    FORECASTS_VIEW,
    SPOOL_VIEW,
    WARNINGS_VIEW,
    BACKUPS_VIEW,
)
