"""What several commands are told."""

from pathlib import Path
from typing import Annotated

import typer

ManifestPath = Annotated[Path, typer.Argument(metavar="MANIFEST", help="YAML file, e.g. manifests/demo.yaml")]
RunFolder = Annotated[str, typer.Argument(metavar="DIR", help="Output folder of a run, or its URL: s3://bucket/run")]
Out = Annotated[
    str, typer.Option(metavar="DIR", help="Output folder, or URL (s3://, gs://): new, empty, or this very run's")
]
Silence = Annotated[
    float,
    typer.Option(
        "--take-over-after",
        min=1,
        metavar="SECONDS",
        help="Let another run take over after no sign of life for so long",
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Use only the first N source rows")]
Local = Annotated[bool, typer.Option("--local", help="Run in this process, without Ray")]
Address = Annotated[str | None, typer.Option(help="Ray cluster, e.g. auto; else $RAY_ADDRESS, else a Ray of our own")]
Workers = Annotated[int | None, typer.Option(min=1, help="Workers of each CPU group, instead of the manifest's")]
LogJson = Annotated[bool, typer.Option("--log-json", help="Progress as JSON lines")]
MetricsPortOption = Annotated[
    int | None, typer.Option("--metrics-port", min=0, max=65535, help="Serve Prometheus metrics; 0: on a free port")
]
MetricsHost = Annotated[
    str | None,
    typer.Option("--metrics-host", help="Address to serve them at; 0.0.0.0: to everybody", show_default="127.0.0.1"),
]
MetricsFileOption = Annotated[
    Path | None, typer.Option("--metrics-file", help="Keep them in a file, for node_exporter: NAME.prom")
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show Ray's own log lines too")]
