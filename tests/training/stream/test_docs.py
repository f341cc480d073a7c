import contextlib
import io
import re
from pathlib import Path

PAGE = (Path(__file__).parents[3] / "docs" / "stream.md").read_text()


def test_the_worked_example_prints_what_the_page_says() -> None:
    example, printed = re.search(r"```python\n(.*?)```.*?```text\n(.*?)```", PAGE, re.DOTALL).groups()
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(example, "docs/stream.md", "exec"), {})
    assert output.getvalue() == printed


def test_the_page_names_every_field_of_a_batch_an_option_a_recipe_and_the_state() -> None:
    from dataclasses import fields

    from training.stream.collate import Batch
    from training.stream.options import StreamOptions
    from training.stream.recipe import STREAM_RECIPES
    from training.stream.state import Era, Quarantined, State

    names = [field.name for kind in (Batch, StreamOptions, State, Quarantined) for field in fields(kind)]
    assert [name for name in (*names, *STREAM_RECIPES) if f"`{name}`" not in PAGE] == []
    own = [field.name for field in fields(Era) if field.name != "step"]
    assert [name for name in own if f"`eras[].{name}`" not in PAGE] == []
