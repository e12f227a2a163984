"""What a backup child does to bring the files of a backup back beside a log that is whole."""

from pathlib import Path

from btmd.backup.artefact_places import bring_artefact_back
from btmd.backup.manifests import ID_DIGITS
from btmd.backup.perform import Progress, is_readable_dataset, keys_of, perform, repository_of
from btmd.backup.requests import ArtefactProblem, BringBackRequest, BroughtBackAnswer
from btmd.errors import BtmdError, PartMissing


@perform.register
def _bring_back(request: BringBackRequest, progress: Progress) -> BroughtBackAnswer:
    repository = repository_of(request)
    ring = keys_of(request).open(request.store_id, request.now_us, make=False)
    artefacts = [one for one in repository.show(request.name, ring).artefacts if one.key_id not in ring.erased]
    if request.contents is not None:
        found = {one.content_sha256: one for one in artefacts if is_readable_dataset(one, ring)}
        if not found.keys() >= set(request.contents):
            raise PartMissing(
                f"The backup {request.name[:ID_DIGITS]} does not hold these files.",
                hint="`btmctl backup show ID` tells what is in it.",
            )
        artefacts = [found[sha256] for sha256 in request.contents]
    brought, problems = 0, list[ArtefactProblem]()
    for number, stored in enumerate(artefacts):
        progress(number / len(artefacts), f"Bringing back {stored.name} of {stored.owner}")
        try:
            bring_artefact_back(repository.folder, stored, ring, Path(request.state_dir))
            brought += 1
        except BtmdError as error:
            if request.contents is not None:
                raise
            problems.append(ArtefactProblem(f"{stored.name} of {stored.owner}", error.code, error.detail))
    return BroughtBackAnswer(brought, tuple(problems))
