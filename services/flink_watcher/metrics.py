"""The metrics of the ranking job's watcher, besides what every process has."""

from chassis.metrics import Metric

RUNNING = Metric("placar_flink_job_running", "gauge", "1 or 0", "1 while every task of the ranking job runs")
TASKS_RUNNING = Metric("placar_flink_job_tasks_running", "gauge", "tasks", "Running tasks of the ranking job")
RESTARTS = Metric(
    "placar_flink_job_restarts", "gauge", "restarts", "Restarts of the job by Flink since it was submitted"
)
INTERVENTIONS = Metric(
    "placar_flink_interventions_total",
    "counter",
    "interventions",
    "What the watcher did to the job",
    ("action",),
    after="the first intervention",
)
FAILED_INTERVENTIONS = Metric(
    "placar_flink_failed_interventions_total", "counter", "interventions", "Interventions that did not succeed"
)
METRICS = (RUNNING, TASKS_RUNNING, RESTARTS, INTERVENTIONS, FAILED_INTERVENTIONS)
