"""The three kinds of OpenLineage events, as far as they are understood; whatever else they hold is kept."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

Name = Annotated[str, Field(min_length=1, max_length=1024, pattern="^[^\x00]*$")]
Facets = Mapping[str, Mapping[str, Any] | None]
State = Literal["START", "RUNNING", "COMPLETE", "FAIL", "ABORT", "OTHER"]


class EventError(Exception):
    """The body is no OpenLineage event; the message names the fields that are wrong."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Dataset(_Part):
    """A dataset as an event names it; facets of the dataset, and of this reading or writing of it."""

    namespace: Name
    name: Name
    facets: Facets = Field(default_factory=dict)
    inputFacets: Facets = Field(default_factory=dict)  # noqa: N815 - OpenLineage's name
    outputFacets: Facets = Field(default_factory=dict)  # noqa: N815


class Job(_Part):
    """A job as an event names it."""

    namespace: Name
    name: Name
    facets: Facets = Field(default_factory=dict)


class Run(_Part):
    """A run as an event names it."""

    runId: UUID  # noqa: N815
    facets: Facets = Field(default_factory=dict)


class _Event(_Part):
    eventTime: AwareDatetime  # noqa: N815
    producer: Name


class JobEvent(_Event):
    """What a job reads and writes, without a run."""

    job: Job
    inputs: tuple[Dataset, ...] = ()
    outputs: tuple[Dataset, ...] = ()


class RunEvent(JobEvent):
    """A state of a run."""

    run: Run
    eventType: State = "OTHER"  # noqa: N815


class DatasetEvent(_Event):
    """What is known of a dataset."""

    dataset: Dataset


Event = RunEvent | JobEvent | DatasetEvent


def event(body: Any) -> Event:
    """The event in a JSON value.

    Raises:
        EventError: it is none.
    """
    if not isinstance(body, Mapping):
        raise EventError("an OpenLineage event is a JSON object")
    kind: type[Event] = RunEvent if "run" in body else DatasetEvent if "dataset" in body else JobEvent
    try:
        return TypeAdapter(kind).validate_python(body)
    except ValidationError as error:
        wrong = (f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:5])
        raise EventError(f"{kind.__name__}: {'; '.join(wrong)}") from None
