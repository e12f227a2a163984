"""A refusal that could be met by a permission names it, for programs as for people."""

import pytest

from btmd.api.problems import problem
from btmd.errors import BtmdError, GpuUnusable, NotEnoughDisk, NotEnoughMemory, PackageMissing


@pytest.mark.parametrize("kind", [NotEnoughMemory, NotEnoughDisk])
def test_what_could_be_allowed_is_a_field_of_the_document(kind: type[NotEnoughMemory] | type[NotEnoughDisk]) -> None:
    body = problem(kind("It does not fit.", hint="Add --allow lora,cpu.", allow=("lora", "cpu")))
    assert (body["status"], body["allow"]) == (409, ["lora", "cpu"])
    assert "allow" not in problem(kind("It does not fit.", hint="Choose a smaller model."))


@pytest.mark.parametrize(
    ("error", "code"),
    [(GpuUnusable("x", hint="y"), "gpu_unusable"), (PackageMissing("x", hint="y"), "package_missing")],
)
def test_what_the_machine_lacks_has_a_code_of_its_own(error: BtmdError, code: str) -> None:
    assert (problem(error)["code"], problem(error)["status"], error.exit_code) == (code, 409, 6)
