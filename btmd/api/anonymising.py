"""Personal data in a dataset: how much there is, what anonymising would replace, and the version without it."""

import re
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from btmd.api.answers import Progress, described, working_answer
from btmd.api.dataset_documents import ANONYMISED_EXAMPLE as REPLACED_EXAMPLE
from btmd.api.dataset_documents import EXAMPLE, UploadedFile, found_dataset
from btmd.api.idempotency import Key
from btmd.api.next_version import Changes, Recording, next_version, told
from btmd.api.operation import Router, operation
from btmd.api.parts import Parts
from btmd.api.permission import DATASET, Permission
from btmd.api.shapes import either, typed
from btmd.api.work import heard
from btmd.domain.event import Actor
from btmd.errors import InvalidValue
from btmd.inspection.facts import PersonalData
from btmd.inspection.requests import OwnExpression, Replacing, WordList
from btmd.inspection.shown import ShownFinding
from btmd.privacy.finding import kind_named
from btmd.privacy.limits import limits_of
from btmd.projections.dataset import DatasetRow, DatasetVersionRow

router = Router(prefix="/datasets", tags=("datasets",))

PERSONAL_EXAMPLE = {
    "dataset_id": "faq",
    "version_id": "0a1b2c3d4e5f6071",
    "personal_data": typed(
        PersonalData,
        {
            "rows": 180,
            "rows_affected": 12,
            "kinds": [{"kind": "email", "rows": 12, "findings": 14, "lines": [3, 17]}],
            "names_looked_for": False,
        },
    ),
    "not_found": limits_of(names_looked_for=True),
}
ANONYMISED_EXAMPLE = {
    "anonymised": True,
    "changes": either(REPLACED_EXAMPLE, {}),
    "not_found": limits_of(names_looked_for=True),
    "dataset": EXAMPLE,
}
PREVIEW_EXAMPLE = {
    **PERSONAL_EXAMPLE,
    "findings": [
        typed(
            ShownFinding,
            {
                "line": 3,
                "role": "user",
                "rejected": False,
                "kind": "email",
                "before": "at ",
                "found": "ada@example.org",
                "after": ".",
                "placeholder": "[EMAIL_1]",
            },
        )
    ],
}
_MOST_LISTS: Final = 100
_REGION: Final = re.compile(r"[A-Z]{2}")


class Given(msgspec.Struct):
    """Words or groups of words that are replaced throughout, by the kind they are of: `name`, say."""

    kind: Annotated[str, Meta(min_length=1, max_length=40)]
    words: Annotated[list[Annotated[str, Meta(max_length=500)]], Meta(max_length=200_000)]


class OwnPattern(msgspec.Struct):
    """A regular expression, and the kind of what it finds: `customer_no`, say."""

    kind: Annotated[str, Meta(min_length=1, max_length=40)]
    expression: Annotated[str, Meta(min_length=1, max_length=2000)]


class Anonymisation(msgspec.Struct):
    """What is replaced beside the kinds that are found by their form; `keep` names kinds that stay.

    `patterns` are regular expressions, `columns` of `source` hold values of a kind each. `regions` (DE, US) are those
    whose phone numbers are found without a country code. With `exact_case` words count as they are written.
    """

    lists: Annotated[list[Given], Meta(max_length=_MOST_LISTS)] = msgspec.field(default_factory=list)
    patterns: Annotated[list[OwnPattern], Meta(max_length=_MOST_LISTS)] = msgspec.field(default_factory=list)
    columns: Annotated[dict[str, str], Meta(max_length=_MOST_LISTS)] = msgspec.field(default_factory=dict)
    source: UploadedFile | None = None
    """A file that has the columns."""
    regions: Annotated[list[str], Meta(max_length=20)] = msgspec.field(default_factory=list)
    keep: Annotated[list[str], Meta(max_length=40)] = msgspec.field(default_factory=list)
    exact_case: bool = False

    def replacing(self) -> Replacing:
        """Raises InvalidValue for a kind or a region that is none."""
        regions = tuple(one.strip().upper() for one in self.regions)
        wrong = next((one for one in regions if not _REGION.fullmatch(one)), None)
        if wrong is not None:
            raise InvalidValue(f"{wrong[:20]!r} is no region.", hint="A region has two letters: DE, FR, GB, US.")
        return Replacing(
            lists=tuple(WordList(_kind(one.kind), tuple(one.words)) for one in self.lists),
            patterns=tuple(OwnExpression(_kind(one.kind), one.expression) for one in self.patterns),
            columns={column: _kind(kind) for column, kind in self.columns.items()},
            source_name="" if self.source is None else self.source.file_name,
            regions=regions,
            keep=tuple(_kind(one) for one in self.keep),
            exact_case=self.exact_case,
        )

    @property
    def content(self) -> str | None:
        return None if self.source is None else self.source.content


class AnonymisationPreview(Anonymisation):
    """As an anonymisation; of each kind the first `examples` are shown."""

    examples: Annotated[int, Meta(ge=0, le=1000)] = 5


def not_found(replacing: Replacing = Replacing(), *, names_looked_for: bool) -> list[str]:  # noqa: B008 - frozen
    """What is not found in spite of all that was asked for, in sentences."""
    return limits_of(
        names_looked_for=names_looked_for,
        names_given=bool(replacing.lists or replacing.columns),
        regions=replacing.regions,
        kept=replacing.keep,
    )


def personal_data_json(found: PersonalData) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.to_builtins(found)
    return values


@operation(
    router,
    "POST",
    "/{dataset_id}/personal-data",
    Permission.SEE,
    DATASET,
    **described(PERSONAL_EXAMPLE, errors=(404, 409), progress=True),
)
async def survey_personal_data(dataset_id: str, request: Request, parts: Parts) -> Response:
    """Which kinds of personal data the newest version holds, in how many rows, and on which lines."""
    row, newest = await found_dataset(parts, dataset_id)

    async def work(progress: Progress) -> dict[str, Any]:
        async with heard(progress) as on_progress:
            found = await parts.anonymising.personal_data(newest, on_progress)
        return {
            "dataset_id": row.dataset_id,
            "version_id": newest.version_id,
            "personal_data": personal_data_json(found),
            "not_found": not_found(names_looked_for=found.names_looked_for),
        }

    return await working_answer(request, work, parts.stopping)


@operation(
    router,
    "POST",
    "/{dataset_id}/anonymise/preview",
    Permission.SEE,
    DATASET,
    **described(PREVIEW_EXAMPLE, errors=(400, 404, 409), progress=True),
)
async def preview_anonymising(
    dataset_id: str, body: AnonymisationPreview, request: Request, parts: Parts, actor: Actor
) -> Response:
    """What anonymising would replace, in its context; nothing is changed, and nothing of the text is recorded."""
    row, newest = await found_dataset(parts, dataset_id)
    replacing = body.replacing()

    async def work(progress: Progress) -> dict[str, Any]:
        async with heard(progress) as on_progress:
            found = await parts.anonymising.preview(
                newest, replacing, body.examples, on_progress, actor=actor, content=body.content
            )
        values: dict[str, Any] = msgspec.to_builtins(found)
        return {
            "dataset_id": row.dataset_id,
            "version_id": newest.version_id,
            "findings": values.pop("findings"),
            "personal_data": values,
            "not_found": not_found(replacing, names_looked_for=found.names_looked_for),
        }

    return await working_answer(request, work, parts.stopping)


@operation(
    router,
    "POST",
    "/{dataset_id}/anonymise",
    Permission.OWN,
    DATASET,
    **described(ANONYMISED_EXAMPLE, errors=(400, 404, 409), progress=True),
)
async def anonymise_dataset(
    dataset_id: str, body: Anonymisation, request: Request, key: Key, parts: Parts, actor: Actor
) -> Response:
    """Make the version with placeholders; `anonymised` is false where nothing was found. The one before stays."""
    replacing = body.replacing()

    async def make(row: DatasetRow, newest: DatasetVersionRow, recording: Recording) -> tuple[bool, Changes]:
        return told(await parts.anonymising.anonymise(row, newest, replacing, content=body.content, **recording))

    def limits(changes: Changes) -> dict[str, Any]:
        return {"not_found": not_found(replacing, names_looked_for=bool(changes.get("names_looked_for")))}

    return await next_version(dataset_id, request, key, parts, actor, make, done="anonymised", more=limits)


def _kind(given: str) -> str:
    kind = kind_named(given)
    if kind is None:
        raise InvalidValue(
            f"{given[:40]!r} cannot name a kind.", hint="Letters, digits and _, such as CUSTOMER or CUSTOMER_NO."
        )
    return kind
