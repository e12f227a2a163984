"""Datasets and models: names are unique, consent is kept and taken back."""

from msgspec.structs import replace

from btmd.domain import dataset, model
from btmd.domain.dataset import AddDataset, ConsentGranted, ConsentRevoked, DatasetAdded, DatasetVersionAdded
from btmd.errors import Conflict, DatasetNotFound, InvalidValue, ModelNotFound
from tests.domain.given import given

ADDED = (
    DatasetAdded("d", "D", 7, "rows.csv"),
    DatasetVersionAdded("d", "v1", "aa", "bb", 10, 3, {}, {}),
    ConsentGranted("d", "course", ("train",), 7),
)
ADD = AddDataset(ADDED[0], ADDED[1], consent=True, purpose="course")
FACTS = model.ModelFacts("LlamaForCausalLM", "llama", 1, 1, 1, 1, 1, 1, 1, 1, True, "bf16", 1, True, True, False, "f1")
MODEL = model.AddModel("m", "M", 7, "/models/m", "/models/m", False, FACTS)
MODEL_ADDED = model.ModelAdded("m", "M", 7, "/models/m", "/models/m", False, FACTS)


def test_adding_records_version_and_consent() -> None:
    given().when(ADD).then(*ADDED)
    given().when(replace(ADD, consent=False)).then(*ADDED[:2])


def test_the_same_contents_again_change_nothing_but_missing_consent() -> None:
    given(*ADDED).when(ADD).then_nothing()
    given(*ADDED[:2]).when(ADD).then(ADDED[2])


def test_other_contents_need_another_name() -> None:
    given(*ADDED).when(replace(ADD, version=replace(ADDED[1], version_id="v2"))).then_refused(Conflict, "--name")


def test_revoked_consent_is_gone() -> None:
    given(*ADDED).when(dataset.RevokeConsent("d", 7)).then(ConsentRevoked("d", 7))
    assert given(*ADDED, ConsentRevoked("d", 7)).state(AddDataset).consent_scopes == ()
    given(*ADDED, ConsentRevoked("d", 7)).when(dataset.RevokeConsent("d", 7)).then_nothing()


def test_consent_adds_to_what_was_allowed_and_keeps_its_purpose() -> None:
    trained = dataset.ConsentGranted("d", "our library", ("train",), 7)
    added = (*ADDED[:2], trained)
    given(*added).when(dataset.GrantConsent("d", 8, "", ("backup",))).then(
        dataset.ConsentGranted("d", "our library", ("train", "backup"), 8)
    )
    given(*added).when(dataset.GrantConsent("d", 8)).then_nothing()
    given(*added).when(dataset.GrantConsent("d", 8, "more")).then(dataset.ConsentGranted("d", "more", ("train",), 8))
    given(*added).when(dataset.GrantConsent("d", 8, "", ("sell",))).then_refused(InvalidValue, "train, export, backup")
    given(*added).when(dataset.GrantConsent("d", 8, "", ())).then_refused(InvalidValue)
    revoked = (*added, ConsentRevoked("d", 7))
    given(*revoked).when(dataset.GrantConsent("d", 8)).then(dataset.ConsentGranted("d", "", ("train",), 8))


def test_a_removed_dataset_is_not_there_and_its_name_is_free() -> None:
    removed = (*ADDED, dataset.DatasetRemoved("d"))
    given(*removed).when(dataset.GrantConsent("d", 7)).then_refused(DatasetNotFound)
    given(*removed).when(ADD).then(*ADDED)


def test_a_model_is_added_once() -> None:
    given().when(MODEL).then(MODEL_ADDED)
    given(MODEL_ADDED).when(MODEL).then_nothing()
    given(MODEL_ADDED).when(replace(MODEL, source="/elsewhere")).then_refused(Conflict, "--name")


def test_changed_weights_are_a_new_registration() -> None:
    changed = replace(MODEL, facts=replace(FACTS, fingerprint="f2"))
    given(MODEL_ADDED).when(changed).then(replace(MODEL_ADDED, facts=changed.facts))


def test_a_model_that_is_not_there() -> None:
    given().when(model.RemoveModel("m")).then_refused(ModelNotFound)


def test_hashes_are_recorded_once_and_compared_from_then_on() -> None:
    files = {"config.json": "aa", "model.safetensors": "bb"}
    given(MODEL_ADDED).when(model.VerifyModel("m", files)).then(model.ModelHashed("m", files))
    hashed = given(MODEL_ADDED, model.ModelHashed("m", files))
    hashed.when(model.VerifyModel("m", files)).then(model.ModelVerified("m", (), (), ()))
    now = {"config.json": "aa", "model.safetensors": "cc", "new.txt": "dd"}
    hashed.when(model.VerifyModel("m", now)).then(model.ModelVerified("m", ("model.safetensors",), (), ("new.txt",)))
    given(MODEL_ADDED, model.ModelRemoved("m")).when(model.VerifyModel("m", files)).then_refused(ModelNotFound)


def test_what_is_set_for_a_model_stays_when_it_is_added_anew() -> None:
    was_set = model.ModelSettingsChanged("m", {"lora_r": 4})
    given(MODEL_ADDED).when(model.SetModel("m", {"lora_r": 4})).then(was_set)
    given(MODEL_ADDED, was_set).when(model.SetModel("m", {"lora_r": 4})).then_nothing()
    given(MODEL_ADDED, was_set).when(model.SetModel("m", {"lora_r": None})).then(model.ModelSettingsChanged("m", {}))
    changed = replace(MODEL, facts=replace(FACTS, fingerprint="f2"))
    added = replace(MODEL_ADDED, facts=changed.facts)
    given(MODEL_ADDED, was_set).when(changed).then(added, was_set)
    given(MODEL_ADDED, was_set, model.ModelRemoved("m")).when(MODEL).then(MODEL_ADDED)
