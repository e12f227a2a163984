"""The report of a job as Markdown: one document that refers to nothing elsewhere."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from btmctl import words
from btmctl.client import Document

_ESCAPED = str.maketrans({char: f"\\{char}" for char in "\\`*_[]<>|#~"} | {"\n": " ", "\r": " "})


def markdown(report: Document) -> str:
    """The whole document. Texts that somebody typed cannot change its form."""
    job = report["job"]
    title = f"{job['job_id']} {job['name']}".strip()
    made = report["made"]
    sections = (
        f"# Audit report of the training {_plain(title)}",
        f"Made {made['at']} for {_who(made['by'])} by btmd {_plain(made['btmd'])} of the store `{report['store_id']}`."
        " Numbers in brackets are those of the events that say so; the last section lists these with their hashes. No"
        " text of any row, prompt or answer stands in here.",
        *(
            f"## {heading}\n\n{text}"
            for heading, text in (
                ("Who asked, and when", _job(report)),
                ("The model", _model(report["model"])),
                ("The data", _dataset(report["dataset"])),
                ("Consent", _consent(report["consent"])),
                ("Personal data", _personal_data(report)),
                ("The plan", _plan(report["plan"])),
                ("Settings in force", _settings(report["settings"])),
                ("The forecast", _forecast(report["forecast"])),
                ("Attempts and recoveries", _attempts(report)),
                ("The result", _result(report["result"])),
                ("Who took it away", _exports(report["exports"])),
                ("Who talked with it", _chats(report["chats"])),
                ("Where it ran", _plain(report["surroundings"])),
                ("The log", _log(report["log"])),
                ("The events that this stands on", _events(report)),
            )
        ),
    )
    return "\n\n".join(sections) + "\n"


def _job(report: Document) -> str:
    job = report["job"]
    asked = job["asked"]
    lines = [f"Asked for by {_who(asked['by'])} at {asked['at']} {_at(asked)}, preset {_code(job['preset'])}."]
    if job["description"]:
        lines.append(f"Described as: {_plain(job['description'])}")
    if job["ended"]:
        lines.append(f"Ended at {job['ended']['at']} {_at(job['ended'])}.")
    else:
        lines.append("It has not ended.")
    for one in job["owners"]:
        what = {"ThingShared": "Shared with", "ThingUnshared": "No longer shared with", "ThingTransferred": "Given to"}
        to = one.get("subject") or f"the user number {one.get('to_uid')}"
        lines.append(f"{what[one['type']]} {_plain(to)} by {_who(one['by'])} at {one['at']} {_at(one)}.")
    return "\n\n".join(lines)


def _model(model: Document) -> str:
    names = ("architecture", "parameters", "dtype", "license", "quantised")
    rows = [(name, model[name]) for name in names if model.get(name)]
    rows += [("fingerprint", f"`{model['fingerprint']}`")]
    text = f"{_code(model['model_id'])}"
    if model["added"]:
        text += f", added by {_who(model['added']['by'])} at {model['added']['at']} {_at(model['added'])}."
    text += "\n\n" + _table(("", ""), rows)
    text += "\n\nThe fingerprint is a SHA-256 over the headers of the weights, the configuration and the tokenizer."
    if not model["files"]:
        return text + " The files themselves were never hashed: `btmctl models verify` does it."
    told = model["hashed"]
    text += f"\n\nEvery byte was hashed at {told['at']} {_at(told)}:\n\n"
    text += _table(("file", "SHA-256"), [(name, f"`{digest}`") for name, digest in sorted(model["files"].items())])
    for one in model["verified"]:
        differs = [name for names in ("changed", "missing", "added") for name in one[names]]
        found = f"other than then: {', '.join(map(_plain, differs))}" if differs else "as they were"
        text += f"\n\nCompared again at {one['at']} {_at(one)}: {found}."
    return text


def _dataset(data: Document) -> str:
    text = f"{_code(data['dataset_id'])}, version {_code(data['version_id'])}, SHA-256 of its rows"
    text += f" `{data['rows_sha256']}`."
    if data["added"]:
        added = data["added"]
        text += (
            f" Added by {_who(added['by'])} at {added['at']} {_at(added)} from the file {_plain(data['source_name'])}."
        )
    how = {
        "add": "from a file",
        "update": "from the file as it was then",
        "clean": "cleaned",
        "anonymise": "anonymised",
    }
    rows = [
        (
            f"`{one['version_id']}`",
            how.get(one["made"], one["made"]),
            words.exactly(one["rows"]),
            f"`{one['rows_sha256']}`",
            f"`{one['source_sha256']}`",
            f"{one['at']} by {_who(one['by'])} {_at(one)}",
        )
        for one in data["versions"]
    ]
    text += "\n\n" + _table(("version", "made", "rows", "SHA-256 of its rows", "of the file", "when"), rows)
    if len(rows) > 1:
        text += "\n\nEach version was made from the one below it."
    return text


def _consent(consent: Document) -> str:
    then, now = consent["when_asked"], consent["now"]
    lines = [f"When the training was asked for: {_allowed(then)}.", f"Now: {_allowed(now)}."]
    what = {
        "ConsentGranted": "allowed",
        "ConsentRevoked": "taken back",
        "DatasetRemoved": "the dataset was removed",
        "DatasetErased": "the dataset was erased",
    }
    rows = [
        (
            one["at"],
            _who(one["by"]),
            what[one["type"]],
            ", ".join(one.get("scopes", ())),
            one.get("purpose", ""),
            one["event"],
        )
        for one in consent["history"]
    ]
    return "\n\n".join([*lines, _table(("when", "who", "what", "for what use", "purpose", "event"), rows)])


def _allowed(state: Document) -> str:
    if not state["scopes"]:
        return "nothing was allowed" + (f" {_at(state)}" if state["event"] else "")
    purpose = f", purpose: {_plain(state['purpose'])}" if state["purpose"] else ", without a purpose being named"
    return f"{', '.join(state['scopes'])}{purpose} {_at(state)}"


def _personal_data(report: Document) -> str:
    lines = []
    if report["dataset"]["anonymised"]:
        lines.append(
            "Personal data that was found in the data was replaced before the training (see the versions above)."
        )
    for one in report["personal_data"]:
        kinds = ", ".join(f"{_plain(kind)} in {count} rows" for kind, count in sorted(one["kinds"].items()))
        lines.append(f"{_who(one['by'])} was told of {kinds} and accepted it at {one['at']} {_at(one)}.")
    return "\n\n".join(lines) or "The log tells of none that was accepted or replaced in this version."


def _plan(plan: Document) -> str:
    rows = [(name, one["value"], one["source"] or "", one["reason"] or "") for name, one in plan["values"].items()]
    parts = [_plain(plan["preset_reason"] or ""), _table(("name", "value", "from", "why"), rows)]
    counted = [f"{plan[name]:,} {text}" for name, text in _COUNTS.items() if isinstance(plan.get(name), int)]
    parts.append(", ".join(counted))
    if plan["overrides"] or plan["allow"]:
        given = ", ".join(f"{name}={_value(value)}" for name, value in plan["overrides"].items())
        parts.append(
            f"Given by the person: {given or 'no values'}; permitted: {', '.join(plan['allow']) or 'nothing more'}."
        )
    if plan.get("from_job"):
        parts.append(
            f"It went on from the adapter of the job {_code(plan['from_job'])}, SHA-256 `{plan['adapter_sha256']}`."
        )
    if plan.get("rerun_of"):
        parts.append(f"It repeats the job {_code(plan['rerun_of'])}.")
    parts += [f"- {_plain(one)}" for one in plan["notes"]]
    return "\n\n".join(part for part in parts if part)


_COUNTS = {"total_steps": "steps planned", "train_rows": "rows to learn from", "held_out_rows": "rows held out"}


def _settings(settings: Sequence[Document]) -> str:
    if not settings:
        return "All settings of the daemon had their defaults."
    rows = [(f"`{one['key']}`", one["value"], f"{one['at']} by {_who(one['by'])}", one["event"]) for one in settings]
    return "What differed from the defaults when the training was asked for:\n\n" + _table(
        ("", "", "set", "event"), rows
    )


def _forecast(forecast: Document) -> str:
    if not forecast["made"]:
        return "None was recorded."
    rows = [
        (one["basis"], *(one["texts"].get(name, "") for name in ("time", "memory", "gpu_memory", "disk")), one["event"])
        for one in forecast["made"]
    ]
    text = _table(("by", "time", "memory", "GPU memory", "disk", "event"), rows)
    if not forecast["scores"]:
        return text
    scores = [
        (
            one["quantity"],
            one["basis"],
            f"{one['forecast']['low']:.6g} to {one['forecast']['high']:.6g}",
            f"{one['outcome']:.6g}",
            "yes" if one["inside"] else "no",
        )
        for one in forecast["scores"]
    ]
    return f"{text}\n\nWhat became of it, in bytes or seconds:\n\n" + _table(
        ("", "by", "said", "was", "inside"), scores
    )


def _attempts(report: Document) -> str:
    if not report["attempts"]:
        return "No trainer was started."
    headings = ("attempt", "why", "device", "begun", "ended", "how", "event")
    parts = [_table(headings, map(_attempt, report["attempts"]))]
    told = [
        (
            one["at"],
            one["type"],
            one.get("reason") or one.get("action") or "",
            one.get("text") or one.get("question") or "",
            one["event"],
        )
        for one in report["recoveries"]
    ]
    parts.append(
        _table(("when", "what", "", "", "event"), told) if told else "Nothing went wrong that had to be recovered from."
    )
    if report["notices"]:
        said = [(one["at"], one["code"], one["text"], one["event"]) for one in report["notices"]]
        parts.append("What the person was told meanwhile:\n\n" + _table(("when", "", "", "event"), said))
    return "\n\n".join(parts)


def _attempt(one: Document) -> tuple[object, ...]:
    return one["attempt"], one["why"], one["device"], one["at"], one["ended_at"], one["ended"], one["event"]


def _result(result: Document | None) -> str:
    if result is None:
        return "There is none yet."
    parts = [f"{result['type']} at {result['at']} {_at(result)}."]
    if result.get("text") or result.get("reason"):
        parts.append(_plain(result.get("text") or result["reason"]))
    if result.get("summary"):
        parts.append(_plain(result["summary"]))
    if result.get("verdict"):
        sure = "sure, at nine in ten" if result["verdict"]["sure"] else "not sure"
        parts.append(f"Verdict: {result['verdict']['kind'].replace('_', ' ')} ({sure}).")
    parts += [f"- {_plain(one)}" for one in result["account"]]
    if result.get("figures"):
        parts.append(_table(("measured", ""), sorted(result["figures"].items())))
    if result["files"]:
        rows = [(one["path"], words.exactly(one["size_bytes"]), f"`{one['sha256']}`") for one in result["files"]]
        parts.append("Its files, hashed when this report was made:\n\n" + _table(("file", "bytes", "SHA-256"), rows))
    elif result["files_missing"]:
        parts.append(f"Its files could not be hashed: {_plain(result['files_missing'])}")
    return "\n\n".join(parts)


def _exports(exports: Sequence[Document]) -> str:
    if not exports:
        return "Nobody, by what the log tells."
    parts = []
    for one in exports:
        form = f"{one['format']} {one['quant']}".strip()
        rows = [(file["path"], words.exactly(file["size_bytes"]), f"`{file['sha256']}`") for file in one["files"]]
        table = _table(("file", "bytes", "SHA-256"), rows)
        parts.append(f"{_who(one['by'])} at {one['at']} {_at(one)}, as {form}:\n\n{table}")
    return "\n\n".join(parts)


def _chats(chats: Document) -> str:
    if not chats["messages"]:
        return "Nobody, by what the log tells."
    people = ", ".join(f"{_plain(name)} ({count})" for name, count in sorted(chats["by"].items()))
    return f"Messages: {chats['messages']}, by {people}. What was said is recorded nowhere."


def _log(log: Document) -> str:
    said = {
        "ok": f"All {log['checked']:,} events of the log were checked for this report, and are as they were written.",
        "tampered": f"Somebody changed the log: {_plain(log['reason'])} (first bad event: {log['first_bad']}).",
        "damaged": f"The log is damaged: {_plain(log['reason'])} (first bad event: {log['first_bad']}).",
    }[log["verdict"]]
    rows = [("newest event", log["head_seq"]), ("its hash", f"`{log['head_hash']}`"), ("epoch", log["epoch"])]
    rows += [("key of exports", f"`{log['public_key']}`")] if log["public_key"] else []
    compared = [(one["source"], one["event"], one["result"].replace("_", " ")) for one in log["compared"]]
    parts = [said, _table(("", ""), rows), _table(("head known to", "event", "in the log"), compared)]
    parts.append(
        "`btmctl audit export` writes these events as lines that can be verified without btmd; the events below are in"
        " it with the same numbers and hashes."
    )
    return "\n\n".join(parts)


def _events(report: Document) -> str:
    rows = [
        (one["event"], one["at"], _who(one["by"]), one["stream"], one["type"], f"`{one['hash']}`")
        for one in report["events"]
    ]
    ticks = report["ticks"]
    text = _table(("event", "when", "who", "stream", "what", "hash"), rows)
    if ticks["count"]:
        first, last = ticks["first"], ticks["last"]
        text += f"\n\nBesides {ticks['count']:,} progress ticks, from event {first['event']} (`{first['hash']}`) to"
        text += f" {last['event']} (`{last['hash']}`)."
    return text


def _table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    for row in rows:
        lines.append("| " + " | ".join(_cell(value) for value in row) + " |")
    return "\n".join(lines)


def _cell(value: object) -> str:
    text = _value(value)
    whole = len(text) > 2 and text[0] == text[-1] == "`" and "`" not in text[1:-1]
    return text.replace("|", " ") if whole else _plain(text)


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(one)}" for name, one in value.items())
    if isinstance(value, float):
        return f"{value:.6g}"
    return words.value(value)


def _plain(text: object) -> str:
    """What somebody typed, so that it is shown as it is."""
    return str(text).translate(_ESCAPED)


def _code(text: object) -> str:
    return "`" + " ".join(str(text).replace("`", "'").split()) + "`"


def _who(actor: Mapping[str, Any]) -> str:
    return f"{_plain(actor['name'])} (uid {actor['uid']})"


def _at(told: Mapping[str, Any]) -> str:
    return f"\\[{told['event']}\\]"
