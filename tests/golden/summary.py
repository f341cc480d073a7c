"""What a run decided, without what a codec's version may change: words, boxes, sizes, thresholds."""

import json
from pathlib import Path
from typing import Any

from manifests.record import Record, Subject
from manifests.shard import record_from_members
from manifests.tar import read_samples
from pipeline.ledger import Layout
from stages.masks import mask_area

EXPECTED = Path(__file__).with_name("coco.json")


def summary(layout: Layout) -> str:
    """Every kept record and every step of a run, as JSON that a person can compare."""
    records: list[Record] = []
    for unit in layout.unit_records():
        with layout.tar(unit.name).open("rb") as file:
            records += [record_from_members(members) for _, members in read_samples(file)]
    steps = [
        {"stage": step.stage, "version": step.version, "params": json.loads(step.params)} for step in records[0].steps
    ]
    return json.dumps({"steps": steps, "records": [_plain(record) for record in records]}, indent=1) + "\n"


def _plain(record: Record) -> dict[str, Any]:
    assert record.image and record.prompt
    return {
        "row": record.row,
        "caption": record.caption,
        "size": [record.image.width, record.image.height],
        "prompt": record.prompt.to_plain(),
        "subjects": [_subject(subject) for subject in record.subjects or ()],
        "dropped": [[lost.phrase, lost.stage, lost.reason] for lost in record.dropped_subjects],
        "controls": [[control.kind, control.picture.width, control.picture.height] for control in record.controls],
    }


def _subject(subject: Subject) -> dict[str, Any]:
    assert subject.box and subject.mask and subject.crop
    return {
        "phrase": subject.phrase,
        "span": [subject.span.start, subject.span.end],
        "head": subject.head,
        "box": [round(edge, 1) for edge in subject.box.xyxy],
        "mask_share": round(mask_area(subject.mask) / subject.box.area, 2),
        "crop": [subject.crop.width, subject.crop.height],
    }
