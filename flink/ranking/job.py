"""Composition root of the ranking job: `flink run -pym flink.ranking.job` submits it."""

import os
import sys

from pyflink.common import Configuration as FlinkConfiguration
from pyflink.common import Types
from pyflink.datastream import DataStream, StreamExecutionEnvironment
from pyflink.datastream.data_stream import _create_j_data_stream_python_function_info
from pyflink.fn_execution.flink_fn_execution_pb2 import UserDefinedDataStreamFunction
from pyflink.java_gateway import get_gateway
from pyflink.table import DataTypes, Schema, StreamTableEnvironment
from pyflink.table.changelog_mode import ChangelogMode
from pyflink.util.java_utils import get_j_env_configuration

from contracts.rankings import ranking_windows
from flink.ranking import sql
from flink.ranking.configuration import Configuration, ConfigurationError, read
from flink.ranking.contract import ContractError, registered, released
from flink.ranking.function import OUTPUT_TYPE, Rank
from flink.ranking.window_state import Rules


def _flink_options(configuration: Configuration) -> dict[str, str]:
    """What this job needs of Flink, whatever the cluster's defaults are."""
    return {
        "pipeline.name": configuration.job_name,
        # No operator keeps or changes a row that it has passed on, so none needs a copy of it.
        "pipeline.object-reuse": "true",
        "table.local-time-zone": "UTC",
        "table.exec.mini-batch.enabled": "true",
        "table.exec.mini-batch.allow-latency": f"{configuration.mini_batch_ms} ms",
        "table.exec.mini-batch.size": "100000",
        "table.optimizer.agg-phase-strategy": "TWO_PHASE",
        # The newest sales of each task. At every checkpoint it writes them all into its state, changed or not: 10,000,
        # the default, were most of what a checkpoint cost. Two changes of one sale mostly come close together.
        "table.exec.rank.topn-cache-size": "1000",
        "table.exec.state.ttl": f"{configuration.state_ttl_days} d",
        # The totals are keyed by the sink's key, so the order of a key's rows is already right.
        "table.exec.sink.upsert-materialize": "NONE",
        "python.execution-mode": "process",  # thread mode fails to start with this version
        "python.fn-execution.bundle.time": "60",
        "python.fn-execution.bundle.size": "10000",
    }


def _ranked(totals: DataStream, rank: Rank) -> DataStream:
    """`totals.key_by(ranking_window).process(rank)`, with Java taking the key.

    PyFlink's own `key_by` sends every row through one more Python step, only to put the key in front of it. These rows
    begin with the key already, and the function gets the column after it.
    """
    jvm = get_gateway().jvm
    columns = Types.ROW([Types.STRING()] * len(sql.TOTALS_COLUMNS)).get_java_type_info()
    keyed = totals._j_data_stream.keyBy(jvm.KeyByKeySelector(), Types.ROW([Types.STRING()]).get_java_type_info())
    operator = jvm.ExternalPythonKeyedProcessOperator(
        get_j_env_configuration(keyed.getExecutionEnvironment()),
        _create_j_data_stream_python_function_info(rank, UserDefinedDataStreamFunction.KEYED_PROCESS),
        columns,
        OUTPUT_TYPE.get_java_type_info(),
    )
    return DataStream(keyed.transform("rank", OUTPUT_TYPE.get_java_type_info(), operator)).uid("rank")


def build(configuration: Configuration) -> tuple[StreamExecutionEnvironment, StreamTableEnvironment]:
    """The whole job, ready to execute.

    Raises:
        ContractError: the registry does not hold a schema that this job writes.
    """
    options = FlinkConfiguration()
    for name, value in _flink_options(configuration).items():
        options.set_string(name, value)
    environment = StreamExecutionEnvironment.get_execution_environment(options)
    tables = StreamTableEnvironment.create(environment)
    for name, value in _flink_options(configuration).items():
        tables.get_config().set(name, value)

    windows = ranking_windows(configuration.windows)
    topics = tuple(dict.fromkeys(window.topic for window in windows))
    contracts = {
        window.topic: registered(configuration.registry_url, window.topic, released(window.ranking.topic))
        for window in windows
    }

    tables.execute_sql(sql.sales_table(configuration, windows))
    tables.execute_sql(sql.sets_table(configuration, topics))
    tables.execute_sql(sql.current_sales_view(windows))
    tables.execute_sql(sql.parts_view(windows))

    rows = Schema.new_builder()
    for column, kind in sql.TOTALS_COLUMNS:
        rows.column(column, kind)
    totals = tables.to_changelog_stream(
        tables.sql_query(sql.TOTALS_QUERY),
        rows.primary_key(*sql.TOTALS_KEY).build(),
        ChangelogMode.upsert(),
    )
    rules = Rules(
        emit_interval_ms=configuration.emit_interval_ms,
        idle_ms=configuration.idle_ms,
        shadow=bool(configuration.shadow),
        ttl_ms=configuration.state_ttl_days * 86_400_000,
        since_ms=configuration.state_since_ms,
    )
    sets = _ranked(totals, Rank(windows, contracts, rules))
    statements = tables.create_statement_set()
    published = tables.from_data_stream(
        sets,
        Schema.new_builder()
        .column("topic", DataTypes.STRING())
        .column("record_key", DataTypes.STRING())
        .column("payload", DataTypes.BYTES())
        .build(),
    )
    tables.create_temporary_view("published", published)
    statements.add_insert_sql("INSERT INTO sets SELECT record_key, payload, topic FROM published")
    statements.attach_as_datastream()
    return environment, tables


def main() -> None:
    """Submit the job, or end with one readable line and status: 2 a wrong setting, 3 a contract or its registry."""
    try:
        configuration = read(os.environ)
        environment, _ = build(configuration)
    except ConfigurationError as error:
        sys.stderr.write(f"ranking job: wrong setting: {error}\n")
        raise SystemExit(2) from None
    except ContractError as error:
        sys.stderr.write(f"ranking job: {error}\n")
        raise SystemExit(3) from None
    environment.execute_async(configuration.job_name)


if __name__ == "__main__":
    main()
