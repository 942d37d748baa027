"""What is kept of an edit can be written as JSON and read back."""

import json
from dataclasses import asdict

from maskedit.plugin.session_records import EditRecord, Event


def test_records_and_events_survive_json() -> None:
    record = EditRecord(
        step=4, view=1, photo="1.png", index=3, sweep=1, noise_level=0.5, seed=7, instructions=("make it red",)
    )
    read = json.loads(json.dumps(asdict(record)))
    assert EditRecord(**{**read, "instructions": tuple(read["instructions"]), "masks": ()}) == record
    event = Event(step=4, kind="undo", value={"to": 2})
    assert Event(**json.loads(json.dumps(asdict(event)))) == event
