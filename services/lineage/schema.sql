-- What the lineage service stores. Safe to repeat.
CREATE TABLE IF NOT EXISTS events (
    id         bigserial PRIMARY KEY,
    digest     bytea NOT NULL UNIQUE, -- of the whole event: a repeat is the same event
    event_time timestamptz NOT NULL,
    namespace  text NOT NULL,         -- of the job, or of the dataset
    body       jsonb NOT NULL
);
CREATE INDEX IF NOT EXISTS events_by_time ON events (event_time);

CREATE TABLE IF NOT EXISTS jobs (
    namespace  text NOT NULL,
    name       text NOT NULL,
    facets     jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (namespace, name)
);

CREATE TABLE IF NOT EXISTS runs (
    id            uuid PRIMARY KEY,
    job_namespace text NOT NULL,
    job_name      text NOT NULL,
    state         text NOT NULL,
    facets        jsonb NOT NULL DEFAULT '{}',
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    started_at    timestamptz,
    ended_at      timestamptz,
    FOREIGN KEY (job_namespace, job_name) REFERENCES jobs
);
CREATE INDEX IF NOT EXISTS runs_by_job ON runs (job_namespace, job_name, created_at);

CREATE TABLE IF NOT EXISTS datasets (
    namespace   text NOT NULL,
    name        text NOT NULL,
    facets      jsonb NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    modified_at timestamptz, -- when a run last wrote to it
    PRIMARY KEY (namespace, name)
);

-- what each run reads (direction in) and writes (out); the nil run holds the inputs and outputs of a job without a run
CREATE TABLE IF NOT EXISTS edges (
    job_namespace text NOT NULL,
    job_name      text NOT NULL,
    run_id        uuid NOT NULL,
    direction     text NOT NULL CHECK (direction IN ('in', 'out')),
    namespace     text NOT NULL,
    name          text NOT NULL,
    facets        jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (job_namespace, job_name, run_id, direction, namespace, name),
    FOREIGN KEY (job_namespace, job_name) REFERENCES jobs,
    FOREIGN KEY (namespace, name) REFERENCES datasets
);
