"""The one error tree: a stable code, an HTTP status and an exit code for each class.

Everything that can be refused is refused with one of these. ``detail`` is the plain sentence a person
reads (what, and why it matters), ``hint`` the next thing to do. Neither ever holds the text of a row.
"""

from typing import ClassVar


class BtmdError(Exception):
    """An operation was refused or failed; carries the sentence and the way on."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    title: ClassVar[str] = "Something went wrong"

    def __init__(self, detail: str, *, hint: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint


# --- wrong usage -------------------------------------------------------------------------------


class InvalidValue(BtmdError):
    code, status, exit_code, title = "invalid_value", 422, 2, "A value cannot be used"


class UnknownKey(InvalidValue):
    code, title = "unknown_key", "There is no such setting"


class UnknownPreset(BtmdError):
    code, status, exit_code, title = "unknown_preset", 404, 5, "There is no such preset"


class BadRequest(BtmdError):
    code, status, exit_code, title = "bad_request", 400, 2, "The request cannot be read"


class TooLarge(BtmdError):
    code, status, exit_code, title = "too_large", 413, 2, "The request is too large"


class RequestTimeout(BtmdError):
    code, status, exit_code, title = "request_timeout", 408, 1, "The request did not arrive in time"


class TooMany(BtmdError):
    code, status, exit_code, title = "too_many", 429, 6, "Too much at once"
    wait_s = 1
    """When to ask again."""


class IdempotencyMismatch(BtmdError):
    code, status, exit_code, title = "idempotency_mismatch", 422, 2, "This key was used for another request"


# --- who may, and what is there ----------------------------------------------------------------


class NotPermitted(BtmdError):
    code, status, exit_code, title = "not_permitted", 403, 4, "Not permitted"


class PathNotOpened(BtmdError):
    """The asking user is not the daemon's: a path of theirs is opened by their own program, which sends the bytes."""

    code, status, exit_code, title = "path_not_opened", 403, 4, "The daemon opens no path of another user"


class NotFound(BtmdError):
    code, status, exit_code, title = "not_found", 404, 5, "There is no such thing"


class ModelNotFound(NotFound):
    code, title = "model_not_found", "There is no such model"


class DatasetNotFound(NotFound):
    code, title = "dataset_not_found", "There is no such dataset"


class JobNotFound(NotFound):
    code, title = "job_not_found", "There is no such job"


class FileMissing(NotFound):
    code, title = "file_not_found", "The file is not there"


# --- the present state does not allow it --------------------------------------------------------


class Conflict(BtmdError):
    code, status, exit_code, title = "conflict", 409, 6, "Not possible in the present state"


class MomentAmbiguous(Conflict):
    code, title = "moment_ambiguous", "The clock showed this time more than once"


class LogMovedOn(Conflict):
    code, title = "log_moved_on", "Something changed since the preview"


class ChangedSince(Conflict):
    code, title = "changed_since", "It was changed again since"


class JobEnded(Conflict):
    code, title = "job_ended", "The job has already ended"


class ConsentMissing(Conflict):
    code, title = "consent_missing", "Nobody has allowed the use of this data"


class PersonalDataFound(Conflict):
    code, title = "personal_data_found", "The dataset holds personal data"


class NotEnoughMemory(Conflict):
    """``allow`` names the changes with which it would fit, to be asked about or permitted beforehand."""

    code, title = "not_enough_memory", "Not enough memory"

    def __init__(self, detail: str, *, hint: str = "", allow: tuple[str, ...] = ()) -> None:
        super().__init__(detail, hint=hint)
        self.allow = allow


class PackageMissing(Conflict):
    code, title = "package_missing", "A package that this needs is not installed"


class GpuUnusable(Conflict):
    code, title = "gpu_unusable", "The installed torch cannot use the GPU"


class NotEnoughDisk(Conflict):
    """``allow`` as with memory."""

    code, title = "not_enough_disk", "Not enough room on the disk"

    def __init__(self, detail: str, *, hint: str = "", allow: tuple[str, ...] = ()) -> None:
        super().__init__(detail, hint=hint)
        self.allow = allow


class OverLimit(Conflict):
    code, title = "over_limit", "More than this user may have"


class DatabaseWhole(Conflict):
    code, title = "database_whole", "There is a database, and it is whole"


class AlreadyRunning(Conflict):
    code, title = "already_running", "Another daemon uses this state folder"


class SocketTaken(Conflict):
    code, title = "socket_taken", "The socket path is taken"


# --- data and models that cannot be used ----------------------------------------------------------


class DatasetRefused(BtmdError):
    """``suggestions`` are mappings with which it may be used, the likeliest first."""

    code, status, exit_code, title = "dataset_refused", 422, 2, "The dataset cannot be used"

    def __init__(self, detail: str, *, hint: str = "", suggestions: tuple[dict[str, str], ...] = ()) -> None:
        super().__init__(detail, hint=hint)
        self.suggestions = suggestions


class DatasetEmpty(DatasetRefused):
    code, title = "dataset_empty", "The dataset holds nothing to train on"


class DatasetBinary(DatasetRefused):
    code, title = "dataset_binary", "The dataset is not text"


class DatasetTruncated(DatasetRefused):
    code, title = "dataset_truncated", "The dataset file is cut off"


class DatasetDamaged(DatasetRefused):
    code, title = "dataset_damaged", "The dataset file is damaged"


class DatasetEncoding(DatasetRefused):
    code, title = "dataset_encoding", "The dataset's characters cannot be read"


class DatasetEncrypted(DatasetRefused):
    code, title = "dataset_encrypted", "The dataset file is protected by a password"


class DatasetScanned(DatasetRefused):
    code, title = "dataset_scanned", "The document holds pictures of text, not text"


class DatasetUnsafe(DatasetRefused):
    code, title = "dataset_unsafe", "The dataset file is built so that reading it would do harm"


class UnknownLayout(DatasetRefused):
    code, title = "unknown_layout", "The dataset's columns are not understood"


class MixedFolder(DatasetRefused):
    code, title = "mixed_folder", "The folder holds more than one kind of data"


class RatedAnswers(DatasetRefused):
    code, title = "rated_answers", "Answers rated one by one cannot be learned from"


class PreferenceData(DatasetRefused):
    code, title = "preference_data", "Preference data needs preference tuning"


class TemplateMismatch(DatasetRefused):
    code, title = "template_mismatch", "The model's chat template and this conversation do not fit together"


class NothingToLearn(DatasetRefused):
    code, title = "nothing_to_learn", "No token of this dataset would be learned"


class ModelRefused(BtmdError):
    code, status, exit_code, title = "model_refused", 422, 2, "The model cannot be used"


class PickledWeights(ModelRefused):
    code, title = "pickled_weights", "The model's weights are pickled"


class PickleRunsCode(PickledWeights):
    code, title = "pickle_runs_code", "The model's weights hide a program"


class NotAModel(ModelRefused):
    code, title = "not_a_model", "This is not a model"


class ModelDamaged(ModelRefused):
    code, title = "model_damaged", "The model's files are damaged or incomplete"


class RemoteCode(ModelRefused):
    code, title = "remote_code", "The model brings its own program code"


class TokenizerMissing(ModelRefused):
    code, title = "tokenizer_missing", "The model has no usable tokenizer"


class BadTemplate(ModelRefused):
    code, title = "bad_template", "The model's chat template cannot be used"


class WrongArchitecture(ModelRefused):
    code, title = "wrong_architecture", "This kind of model cannot be trained here"


# --- damage and the machine ------------------------------------------------------------------------


class Damaged(BtmdError):
    code, status, exit_code, title = "damaged", 503, 7, "Damaged data was found"


class DatabaseMissing(Damaged):
    code, title = "database_missing", "The database is gone"


class ViewWrong(BtmdError):
    code, status, exit_code, title = "view_wrong", 503, 7, "A view does not show what the log says"


class WrongKey(BtmdError):
    code, status, exit_code, title = "wrong_key", 403, 8, "This key does not open the backup"


class Tampered(BtmdError):
    code, status, exit_code, title = "tampered", 503, 9, "Somebody changed the data"


class PartMissing(BtmdError):
    code, status, exit_code, title = "part_missing", 503, 10, "A part is missing"


class BackupNotFound(NotFound):
    code, title = "backup_not_found", "There is no such backup"


class BackupFolderUnusable(BtmdError):
    code, status, exit_code, title = "backup_folder_unusable", 503, 6, "The backup folder cannot be used"


class BackupFolderFull(BackupFolderUnusable):
    code, title = "backup_folder_full", "The disk with the backups is full"


class RecoveryKeyMistyped(InvalidValue):
    code, title = "recovery_key_mistyped", "The recovery key is mistyped"


class StoreTooNew(BtmdError):
    code, status, exit_code, title = "store_too_new", 503, 6, "The database was written by a newer btmd"


class StateFolderReadOnly(BtmdError):
    code, status, exit_code, title = "state_read_only", 503, 6, "The state folder cannot be written"


class StoreFull(BtmdError):
    code, status, exit_code, title = "disk_full", 503, 6, "The disk is full"


class StoreFailed(BtmdError):
    code, status, exit_code, title = "store_failed", 503, 1, "The event log cannot be written"


class ChildFailed(BtmdError):
    code, status, exit_code, title = "child_failed", 503, 1, "A worker process failed"


class Stopping(BtmdError):
    code, status, exit_code, title = "stopping", 503, 3, "The daemon is stopping"


def all_errors() -> dict[str, type[BtmdError]]:
    """Every error class by its code."""
    found: dict[str, type[BtmdError]] = {}
    todo: list[type[BtmdError]] = [BtmdError]
    while todo:
        error = todo.pop()
        found[error.code] = error
        todo.extend(error.__subclasses__())
    return found
