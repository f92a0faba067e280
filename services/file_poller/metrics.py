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
METRICS = (*LEDGER, FILES)
