"""Records in Arrow and JSON: a fixed schema, and nothing lost."""

import pickle
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given, settings

from manifests.record import Box, Record, Row, Span, arrow_schema, arrow_type, changed, from_plain, to_plain
from tests.strategies import rows


@settings(deadline=None, max_examples=60)
@given(rows)
def test_a_row_survives_arrow(row: Row) -> None:
    table = pa.Table.from_pylist([to_plain(row)], schema=arrow_schema(Row))
    assert [from_plain(Row, plain) for plain in table.to_pylist()] == [row]


def test_every_field_has_a_stated_arrow_type() -> None:
    schema = arrow_schema(Record)
    assert schema.names[:3] == ["key", "source", "row"]
    assert schema.field("original").type == pa.large_binary()
    assert schema.field("aesthetic").type == pa.float64()
    assert schema.field("stated_width").type == pa.int64()
    subject = schema.field("subjects").type.value_type
    assert subject.field("span").type == pa.struct([("start", pa.int64()), ("end", pa.int64())])


def test_a_field_without_an_arrow_form_is_refused() -> None:
    with pytest.raises(TypeError, match="no Arrow form"):
        arrow_type(complex)


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (2, 2), (3, 1)])
def test_a_span_has_characters(start: int, end: int) -> None:
    with pytest.raises(ValueError, match=f"start={start}, end={end}"):
        Span(start=start, end=end)


@pytest.mark.parametrize("box", [(1, 0, 1, 5), (0, 3, 4, 2), (float("nan"), 0, 1, 1)])
def test_a_box_has_an_area(box: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="x0 < x1"):
        Box(x0=box[0], y0=box[1], x1=box[2], y1=box[3])


@settings(deadline=None, max_examples=60)
@given(rows)
def test_a_row_survives_pickle(row: Row) -> None:
    assert pickle.loads(pickle.dumps(row, protocol=5)) == row


@given(rows)
def test_a_record_is_changed_as_by_replace(row: Row) -> None:
    assert changed(row.record, {"caption": "new", "row": 7}) == replace(row.record, caption="new", row=7)
    assert changed(row.record, {}) == row.record
    with pytest.raises(AttributeError):
        changed(row.record, {"captoin": "new"})
