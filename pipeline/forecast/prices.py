"""What machines, storage and traffic cost, from a YAML file that the user fills in; and what a run then costs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.forecast.arithmetic import Forecast, ForecastError

Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Prices(BaseModel):
    """Prices in one currency; a GB is 10^9 bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    currency: str = Field(min_length=1)
    source: str = Field("", description="Where the prices are from, and of which day.")
    node_hours: dict[str, Price] = Field(description="Of an hour of a machine, by node type.")
    storage_gb_month: Price = Field(description="Of keeping a GB for a month.")
    storage_months: Price = Field(1, description="How long the shards are kept.")
    egress_gb: Price = Field(0, description="Of a GB of shards that leaves the store's network.")
    egress_times: Price = Field(0, description="How often all shards leave it.")
    ingress_gb: Price = Field(0, description="Of a GB that is downloaded.")


class Cost(BaseModel):
    """One line of the bill."""

    model_config = ConfigDict(frozen=True)

    what: str
    amount: float


def read_prices(path: Path, kinds: Sequence[str]) -> Prices:
    """The prices in a file.

    Raises:
        ForecastError: If it is no such file, or a node type has no price.
        OSError: If it cannot be read.
    """
    try:
        prices = Prices.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ForecastError(f"{path}: no YAML: {error}") from None
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.errors()]
        raise ForecastError(f"{path}: prices are missing or wrong:\n" + "\n".join(lines)) from None
    if missing := [kind for kind in kinds if kind not in prices.node_hours]:
        raise ForecastError(f"{path}: node_hours has no price for {', '.join(missing)}; add it, in {prices.currency}")
    return prices


def bill(forecast: Forecast, prices: Prices) -> tuple[Cost, ...]:
    """What the run costs, line by line: machines by their hours, and bytes."""
    written, downloaded = forecast.written / 1e9, forecast.downloaded / 1e9
    return (
        *(
            Cost(what=machine.node_type, amount=machine.hours * prices.node_hours[machine.node_type])
            for machine in forecast.machines
        ),
        Cost(what="storage", amount=written * prices.storage_gb_month * prices.storage_months),
        Cost(what="egress", amount=written * prices.egress_gb * prices.egress_times),
        Cost(what="ingress", amount=downloaded * prices.ingress_gb),
    )
