"""`python -m deploy.dashboards [--check]`: Grafana's dashboard, generated from deploy/grafana/panels.yaml."""

import itertools
import json
from collections.abc import Mapping

from grafana_foundation_sdk.builders import common, dashboard, prometheus, statetimeline, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.common import LegendDisplayMode, SortOrder, TooltipDisplayMode, VisibilityMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    ValueMap,
    ValueMappingResult,
)

from chassis.panels import Measure, Panel, groups
from deploy import generated
from deploy.native.settings import ROOT

FILE = ROOT / "deploy" / "grafana" / "dashboards" / "pipeline-health.json"
DATASOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")
"""Its uid is that in deploy/grafana/provisioning/datasources."""
UNITS: Mapping[Measure, str] = {
    "seconds": units.Seconds,
    "records/s": units.RecordsPerSecond,
    "rows/s": units.RowsPerSecond,
    "requests/s": units.RequestsPerSecond,
    "share": units.PercentUnit,
    "bytes": units.BytesIEC,
}
"""Grafana's names of the units; what is not here is a plain number."""
HEIGHT = 8
WIDTH = 24
IN_A_ROW = 3

Builder = timeseries.Panel | statetimeline.Panel


def _lines(panel: Panel) -> timeseries.Panel:
    return (
        timeseries.Panel()
        .unit(UNITS.get(panel.measure, units.Short))
        .min(0)
        .line_width(1)
        .fill_opacity(10)
        .show_points(VisibilityMode.NEVER)
        .legend(common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).show_legend(bool(panel.labels)))
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )


def _states() -> statetimeline.Panel:
    return (
        statetimeline.Panel()
        .mappings(
            [
                ValueMap(
                    options={
                        "0": ValueMappingResult(text="down", color="red", index=0),
                        "1": ValueMappingResult(text="up", color="green", index=1),
                    }
                ),
            ]
        )
        .show_value(VisibilityMode.NEVER)
        .legend(common.VizLegendOptions().show_legend(False))
    )


def _panel(panel: Panel) -> Builder:
    """A panel as one of Grafana's."""
    alerts = ", ".join(f"{alert} (docs/runbook.md#{alert.lower()})" for alert in panel.alerts)
    legend = " ".join(f"{{{{{label}}}}}" for label in panel.labels) or panel.title
    built = _states() if panel.measure == "up" else _lines(panel)
    return (
        built.title(panel.title)
        .description(f"{panel.meaning}. Alerts: {alerts}." if alerts else f"{panel.meaning}.")
        .datasource(DATASOURCE)
        .no_value("no data")
        .height(HEIGHT)
        .with_target(prometheus.Dataquery().expr(panel.query).legend_format(legend).range().ref_id("A"))
    )


def text() -> str:
    """The whole dashboard as JSON."""
    built = (
        dashboard.Dashboard("Pipeline health")
        .uid("placar-pipeline-health")
        .description("Placar's health: the same panels as the operations dashboard")
        .tags(["placar"])
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .timezone("browser")
        .time("now-1h", "now")
        .refresh("15s")
    )
    ids = itertools.count(1)
    for group, panels in groups().items():
        built.with_row(dashboard.Row(group).id(next(ids)))
        for start in range(0, len(panels), IN_A_ROW):
            row = panels[start : start + IN_A_ROW]
            for panel in row:
                built.with_panel(_panel(panel).id(next(ids)).span(WIDTH // len(row)))
    return json.dumps(built.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    raise SystemExit(generated.main({FILE: text()}, "docs:dashboards"))
