from pathlib import Path

import pytest

from stages.web.tls import verifying_context


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_of_authorities_that_is_none_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "authorities.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=r"ca_file: .*authorities\.pem is no PEM file"):
        verifying_context(str(path), ["http/1.1"])
