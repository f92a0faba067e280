"""The one stateful Python step of the job: gives Flink's state and timers to the windows of each ranking window."""

from collections.abc import Iterator, Mapping, Sequence

from pyflink.common import Row, Time, Types
from pyflink.datastream.functions import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import ListStateDescriptor, MapStateDescriptor, StateTtlConfig, ValueStateDescriptor

from contracts.rankings import RankingWindow
from flink.ranking.contract import Contract, encoder
from flink.ranking.store import Store
from flink.ranking.window_state import Rules, WindowState

OUTPUT_TYPE = Types.ROW_NAMED(
    ["topic", "record_key", "payload"], [Types.STRING(), Types.STRING(), Types.PRIMITIVE_ARRAY(Types.BYTE())]
)


class Rank(KeyedProcessFunction):
    """Keyed by ranking window: entries of `sql.TOTALS_QUERY` in, (topic, record key, payload) of ranking sets out."""

    def __init__(self, windows: Sequence[RankingWindow], contracts: Mapping[str, Contract], rules: Rules) -> None:
        self._windows = {window.name: window for window in windows}
        self._contracts = dict(contracts)
        self._rules = rules

    def open(self, runtime_context: RuntimeContext) -> None:
        """Obtain the state, which Flink turns to the current key by itself, and the encoders."""
        ttl = StateTtlConfig.new_builder(Time.milliseconds(self._rules.ttl_ms)).build()
        totals = MapStateDescriptor("totals", Types.STRING(), Types.STRING())
        published = MapStateDescriptor("published", Types.STRING(), Types.STRING())
        totals.enable_time_to_live(ttl)
        published.enable_time_to_live(ttl)
        self._store = Store(
            log=runtime_context.get_list_state(ListStateDescriptor("log", Types.STRING())),
            totals=runtime_context.get_map_state(totals),
            published=runtime_context.get_map_state(published),
            open=runtime_context.get_map_state(MapStateDescriptor("open", Types.STRING(), Types.LONG())),
            newest=runtime_context.get_state(ValueStateDescriptor("newest", Types.LONG())),
        )
        self._rejected = runtime_context.get_metrics_group().counter("closedWindowChanges")
        self._encode = {topic: encoder(contract) for topic, contract in self._contracts.items()}
        self._states: dict[str, WindowState] = {}

    def process_element(self, entry: str, context: KeyedProcessFunction.Context) -> tuple[Row, ...]:
        """Take in a total or a clock; publishing waits for the timer."""
        timers = context.timer_service()
        now_ms = timers.current_processing_time()
        due_ms = self._state(context.get_current_key(), now_ms).on_total(entry, now_ms)
        if due_ms is not None:
            timers.register_processing_time_timer(due_ms)
        return ()

    def on_timer(self, timestamp: int, context: KeyedProcessFunction.OnTimerContext) -> Iterator[Row]:
        """Publish every set that differs from the last one."""
        timers = context.timer_service()
        now_ms = timers.current_processing_time()
        name = context.get_current_key()
        publications, due_ms = self._state(name, now_ms).on_timer(timestamp, now_ms)
        topic = self._windows[name].topic
        for publication in publications:
            payload = self._encode[topic](publication.record)
            yield Row(topic=topic, record_key=publication.key, payload=payload)
        if due_ms is not None:
            timers.register_processing_time_timer(due_ms)

    def _state(self, name: str, now_ms: int) -> WindowState:
        if name not in self._states:
            self._states[name] = WindowState(
                self._windows[name], self._store, self._rules, now_ms=now_ms, rejected=self._rejected.inc
            )
        return self._states[name]
