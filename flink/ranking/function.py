"""The one stateful Python step: gathers totals of a board and, once per interval, publishes every set that changed.

State per board (names are part of the state's identity: renaming one loses it):
  pending  country, window index and name -> total and sales that arrived since the last look
  windows  country and window index -> the window as text (snapshot.py)
  open     country and window index -> end of the window, of windows that are still provisional
  newest   the newest instant that any source has shown

A row costs one small write to `pending`; rewriting a window for each row would cost ten times as much.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pyflink.common import Row, Time, Types
from pyflink.common.types import RowKind
from pyflink.datastream.functions import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import MapStateDescriptor, StateTtlConfig, ValueStateDescriptor

from flink.ranking.contract import Contract, encoder, ranking_set
from flink.ranking.definitions import Board
from flink.ranking.sql import CLOCK_INDEX
from flink.ranking.windows import snapshot
from flink.ranking.windows.clock import LAG_MS, watermark
from flink.ranking.windows.top_n import Total, Window, apply

GATHER_MS = 50
"""How long the first change after a pause waits for others of the same batch."""

OUTPUT_TYPE = Types.ROW_NAMED(
    ["topic", "record_key", "payload"], [Types.STRING(), Types.STRING(), Types.PRIMITIVE_ARRAY(Types.BYTE())]
)

Place = tuple[str, int]
"""Country ('' where the ranking spans all) and window index."""


@dataclass
class _Pulse:
    """What this process knows of a board's timing; lost with the process, and that is harmless."""

    last_input_ms: int
    last_look_ms: int = 0
    armed_ms: int | None = None
    open: dict[Place, int] | None = field(default=None)


def _place(text: str) -> Place:
    country, _, index = text.partition("|")
    return country, int(index)


def _text(place: Place) -> str:
    return f"{place[0]}|{place[1]}"


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
        """Obtain the state and the encoders."""
        windows = MapStateDescriptor("windows", Types.STRING(), Types.STRING())
        windows.enable_time_to_live(StateTtlConfig.new_builder(Time.days(self._ttl_days)).build())
        self._windows = runtime_context.get_map_state(windows)
        self._pending = runtime_context.get_map_state(MapStateDescriptor("pending", Types.STRING(), Types.STRING()))
        self._open = runtime_context.get_map_state(MapStateDescriptor("open", Types.STRING(), Types.LONG()))
        self._newest = runtime_context.get_state(ValueStateDescriptor("newest", Types.LONG()))
        self._encode = {topic: encoder(contract) for topic, contract in self._contracts.items()}
        self._pulses: dict[str, _Pulse] = {}

    def process_element(self, row: Row, context: KeyedProcessFunction.Context) -> Iterator[Row]:
        """Note a total or a clock; publishing waits for the timer."""
        now_ms = context.timer_service().current_processing_time()
        board, country, index, name, total, sales = row
        pulse = self._pulse(board, now_ms)
        pulse.last_input_ms = now_ms
        if index == CLOCK_INDEX:
            newest = self._newest.value()
            if newest is None or int(total) > newest:
                self._newest.update(int(total))
        elif row.get_row_kind() is RowKind.DELETE:
            self._pending.put(f"{country}|{index}|{name}", "0|0")
        else:
            self._pending.put(f"{country}|{index}|{name}", f"{_cents(total)}|{sales}")
        self._arm(context, pulse, max(now_ms + GATHER_MS, pulse.last_look_ms + self._interval_ms))
        return iter(())

    def on_timer(self, timestamp: int, context: KeyedProcessFunction.OnTimerContext) -> Iterator[Row]:
        """Look at every window that changed or could have ended, and publish what differs from the last set."""
        now_ms = context.timer_service().current_processing_time()
        name = context.get_current_key()
        board = self._boards.get(name)
        if board is None:
            return
        pulse = self._pulse(name, now_ms)
        pulse.armed_ms = None
        pulse.last_look_ms = timestamp  # when it was due: a late timer must not push the next one back
        reached = watermark(
            self._newest.value() or 0, now_ms=now_ms, silent_ms=now_ms - pulse.last_input_ms, idle_ms=self._idle_ms
        )
        still_open = self._open_windows(pulse)
        changes = self._drain()
        ended = [place for place, end in still_open.items() if end <= reached]
        for place in sorted({*changes, *ended}):
            bounds = board.window.bounds(place[1])
            kept = self._windows.get(_text(place))
            window = Window() if kept is None else snapshot.load(kept)
            publish = apply(window, changes.get(place, {}), passed=bounds[1] <= reached, now_ms=now_ms)
            if publish:
                record = ranking_set(board, place[0], bounds, window, watermark_ms=reached, now_ms=now_ms)
                payload = self._encode[board.topic](record)
                yield Row(topic=board.topic, record_key=board.record_key(place[0], bounds[0]), payload=payload)
            if publish or place in changes:
                self._windows.put(_text(place), snapshot.dump(window))
            self._note_open(still_open, place, bounds[1], window)
        if still_open:
            self._arm(context, pulse, max(now_ms + self._interval_ms, min(still_open.values()) + LAG_MS))

    def _pulse(self, board: str, now_ms: int) -> _Pulse:
        # Silence is counted from the start of this process: a restored job first reads what it missed.
        return self._pulses.setdefault(board, _Pulse(last_input_ms=now_ms))

    def _arm(self, context: KeyedProcessFunction.Context, pulse: _Pulse, due_ms: int) -> None:
        if pulse.armed_ms is None or due_ms < pulse.armed_ms:
            context.timer_service().register_processing_time_timer(due_ms)
            pulse.armed_ms = due_ms

    def _open_windows(self, pulse: _Pulse) -> dict[Place, int]:
        if pulse.open is None:
            pulse.open = {_place(text): end for text, end in self._open.items()}
        return pulse.open

    def _note_open(self, still_open: dict[Place, int], place: Place, end_ms: int, window: Window) -> None:
        if window.status == "provisional":
            if place not in still_open:
                still_open[place] = end_ms
                self._open.put(_text(place), end_ms)
        elif still_open.pop(place, None) is not None:
            self._open.remove(_text(place))

    def _drain(self) -> dict[Place, dict[str, Total]]:
        changes: dict[Place, dict[str, Total]] = defaultdict(dict)
        for text, value in self._pending.items():
            country, index, name = text.split("|", 2)
            cents, count = value.split("|")
            changes[country, int(index)][name] = Total(int(cents), int(count))
        if changes:
            self._pending.clear()
        return changes
