"""Training on personal data as it is: the answer is recorded each time it is given, and changes nothing else."""

from btmd.domain.dataset import (
    AcceptPersonalData,
    AddDataset,
    DatasetAdded,
    DatasetRemoved,
    DatasetVersionAdded,
    PersonalDataAccepted,
)
from btmd.errors import DatasetNotFound
from tests.domain.given import given

ADDED = (DatasetAdded("d", "D", 7, "rows.csv"), DatasetVersionAdded("d", "v1", "aa", "bb", 10, 3, {}, {}))
ACCEPT = AcceptPersonalData("d", "v1", 8, 2, {"email": 2, "phone": 1})
ACCEPTED = PersonalDataAccepted("d", "v1", 8, 2, {"email": 2, "phone": 1})


def test_each_answer_is_recorded() -> None:
    given(*ADDED).when(ACCEPT).then(ACCEPTED)
    given(*ADDED, ACCEPTED).when(ACCEPT).then(ACCEPTED)


def test_an_answer_is_no_consent() -> None:
    assert given(*ADDED, ACCEPTED).state(AddDataset) == given(*ADDED).state(AddDataset)


def test_nothing_is_accepted_of_a_dataset_that_is_not_there() -> None:
    given().when(ACCEPT).then_refused(DatasetNotFound, "list")
    given(*ADDED, DatasetRemoved("d")).when(ACCEPT).then_refused(DatasetNotFound, "list")
