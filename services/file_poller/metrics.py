"""The metrics of the file poller, besides what every process has."""

from chassis.metrics import LEDGER, Metric

FILES = Metric(
    "placar_files_total",
    "counter",
    "files",
    "Files that were read, rejected, changed or vanished meanwhile, or unreadable",
    ("outcome",),
    after="the first file",
)
SKIPPED = Metric(
    "placar_files_skipped",
    "gauge",
    "objects",
    "Objects of the last listing that are neither .csv nor .csv.gz, and are not read",
    after="the first listing",
)
METRICS = (*LEDGER, FILES, SKIPPED)
