"""What a backup child does to bring the files of a backup back beside a log that is whole."""

from pathlib import Path

from btmd.backup.artefacts import bring_back, require_plain_names
from btmd.backup.manifests import StoredArtefact
from btmd.backup.perform import Progress, keys_of, perform, repository_of
from btmd.backup.private_files import folder_errors, make_private_folder
from btmd.backup.requests import ArtefactProblem, BringBackRequest, BroughtBackAnswer
from btmd.errors import BtmdError


@perform.register
def _bring_back(request: BringBackRequest, progress: Progress) -> BroughtBackAnswer:
    repository = repository_of(request)
    ring = keys_of(request).open(request.store_id, request.now_us)
    artefacts = repository.show(request.name, ring).artefacts
    state_dir = Path(request.state_dir)
    tmp = state_dir / "cache"
    brought, problems = 0, list[ArtefactProblem]()
    for number, stored in enumerate(artefacts):
        if stored.key_id in ring.erased:
            continue
        progress(number / len(artefacts), f"Bringing back {stored.name} of {stored.owner}")
        try:
            target = _place_of(stored, state_dir)
            with folder_errors(state_dir):
                make_private_folder(tmp)
                make_private_folder(target)
                bring_back(repository.folder, stored, ring.opening_keys, target, tmp)
            brought += 1
        except BtmdError as error:
            problems.append(ArtefactProblem(f"{stored.name} of {stored.owner}", error.code, error.detail))
    return BroughtBackAnswer(brought, tuple(problems))


def _place_of(stored: StoredArtefact, state_dir: Path) -> Path:
    """The folder it lay in. Raises InvalidValue for names that are none."""
    require_plain_names(stored)
    if stored.kind == "dataset":
        return state_dir / "content" / stored.content_sha256[:2]
    job = state_dir / "jobs" / stored.owner
    return job / "result" if stored.kind == "adapter" else job
