"""The three kinds of OpenLineage events, as far as they are used; whatever else they contain is kept."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, Field, TypeAdapter, ValidationError

Name = Annotated[str, Field(min_length=1, max_length=1024, pattern="^[^\x00]*$")]
Facets = Mapping[str, Mapping[str, Any] | None]
State = Literal["START", "RUNNING", "COMPLETE", "FAIL", "ABORT", "OTHER"]


class EventError(Exception):
    """The body is no OpenLineage event; the message names the wrong fields."""


class Job(BaseModel):
    """A job in an event."""

    namespace: Name
    name: Name
    facets: Facets = Field(default_factory=dict)


class Dataset(Job):
    """A dataset in an event, with facets of the dataset and of this reading or writing of it."""

    inputFacets: Facets = Field(default_factory=dict)  # noqa: N815 - OpenLineage's name
    outputFacets: Facets = Field(default_factory=dict)  # noqa: N815


class Run(BaseModel):
    """A run in an event."""

    runId: UUID  # noqa: N815
    facets: Facets = Field(default_factory=dict)


class _Event(BaseModel):
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
    """Facets of a dataset."""

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
