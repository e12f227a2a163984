"""Answers to what a job asks, at the API."""

from tests.fixtures.daemon import Client


def test_an_answer_needs_a_job_that_asks(client: Client) -> None:
    client.post("/jobs/nothing/answer", {"yes": True}).refused(404, "job_not_found")
    client.post("/jobs/nothing/answer", {"yes": "perhaps"}).refused(422, "invalid_value")
