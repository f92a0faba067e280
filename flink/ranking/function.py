"""The one stateful Python step of the job: gives Flink's state and timers to the keeper of each board."""

from collections.abc import Iterator, Mapping, Sequence

from pyflink.common import Row, Time, Types
from pyflink.common.types import RowKind
from pyflink.datastream.functions import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import MapStateDescriptor, StateTtlConfig, ValueStateDescriptor

from flink.ranking.contract import Contract, encoder
from flink.ranking.definitions import Board
from flink.ranking.keeper import Keeper, Store
from flink.ranking.sql import CLOCK_INDEX
from flink.ranking.windows.top_n import Total

OUTPUT_TYPE = Types.ROW_NAMED(
    ["topic", "record_key", "payload"], [Types.STRING(), Types.STRING(), Types.PRIMITIVE_ARRAY(Types.BYTE())]
)


def _cents(total: str) -> int:
    """'125000.00' -> 12500000: the sum is a decimal with two places, and its text is exact."""
    return int(total.replace(".", ""))


class Rank(KeyedProcessFunction):  # type: ignore[misc]  # pyflink has no types
    """Keyed by board: rows of `sql.totals_query` in, (topic, record key, payload) of ranking sets out."""

    def __init__(
        self,
        boards: Sequence[Board],
        contracts: Mapping[str, Contract],
        *,
        emit_interval_ms: int,
        idle_ms: int,
        ttl_days: int,
    ) -> None:
        self._boards = {board.name: board for board in boards}
        self._contracts = dict(contracts)
        self._interval_ms = emit_interval_ms
        self._idle_ms = idle_ms
        self._ttl_days = ttl_days

    def open(self, runtime_context: RuntimeContext) -> None:
        """Obtain the state, which Flink turns to the current key by itself, and the encoders."""
        windows = MapStateDescriptor("windows", Types.STRING(), Types.STRING())
        windows.enable_time_to_live(StateTtlConfig.new_builder(Time.days(self._ttl_days)).build())
        self._store = Store(
            pending=runtime_context.get_map_state(MapStateDescriptor("pending", Types.STRING(), Types.STRING())),
            windows=runtime_context.get_map_state(windows),
            open=runtime_context.get_map_state(MapStateDescriptor("open", Types.STRING(), Types.LONG())),
            newest=runtime_context.get_state(ValueStateDescriptor("newest", Types.LONG())),
        )
        self._encode = {topic: encoder(contract) for topic, contract in self._contracts.items()}
        self._keepers: dict[str, Keeper] = {}

    def process_element(self, row: Row, context: KeyedProcessFunction.Context) -> Iterator[Row]:
        """Note a total or a clock; publishing waits for the timer."""
        timers = context.timer_service()
        now_ms = timers.current_processing_time()
        board, country, index, name, total, sales = row
        keeper = self._keeper(board, now_ms)
        if index == CLOCK_INDEX:
            due_ms = keeper.note_clock(int(total), now_ms)
        elif row.get_row_kind() is RowKind.DELETE:
            due_ms = keeper.note_total((country, index), name, Total(0, 0), now_ms)
        else:
            due_ms = keeper.note_total((country, index), name, Total(_cents(total), sales), now_ms)
        if due_ms is not None:
            timers.register_processing_time_timer(due_ms)
        return iter(())

    def on_timer(self, timestamp: int, context: KeyedProcessFunction.OnTimerContext) -> Iterator[Row]:
        """Publish every set that differs from the last one."""
        timers = context.timer_service()
        now_ms = timers.current_processing_time()
        name = context.get_current_key()
        publications, due_ms = self._keeper(name, now_ms).look(timestamp, now_ms)
        topic = self._boards[name].topic
        for publication in publications:
            payload = self._encode[topic](publication.record)
            yield Row(topic=topic, record_key=publication.key, payload=payload)
        if due_ms is not None:
            timers.register_processing_time_timer(due_ms)

    def _keeper(self, board: str, now_ms: int) -> Keeper:
        if board not in self._keepers:
            self._keepers[board] = Keeper(
                self._boards[board],
                self._store,
                now_ms=now_ms,
                emit_interval_ms=self._interval_ms,
                idle_ms=self._idle_ms,
            )
        return self._keepers[board]
