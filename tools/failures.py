"""What keeps a command from its work: one line that names the server, where it is, and by which settings."""

from aiokafka.errors import KafkaError
from asynch.errors import ServerException

from chassis import clickhouse, kafka, registry
from chassis.clickhouse import StoreUnavailableError, rejection
from chassis.errors import NotDoneError
from chassis.registry import RegistryUnavailableError
from chassis.settings import ClickHouseSettings, KafkaSettings, RegistrySettings, load
from contracts.codec import ContractError, DecodeError


def failure(error: Exception) -> str | None:
    """The line for an error that is known to lie outside the command; None for any other, a mistake of ours."""
    match error:
        case KafkaError():
            return f"kafka at {load(KafkaSettings).bootstrap} (settings {kafka.SETTING}): {error!r}"
        case RegistryUnavailableError():
            return f"schema registry at {load(RegistrySettings).url} (settings {registry.SETTING}): {error}"
        case StoreUnavailableError():
            return f"clickhouse at {load(ClickHouseSettings).address} (settings {clickhouse.SETTING}): {error}"
        case ServerException():
            store = load(ClickHouseSettings)
            account = "CLICKHOUSE_DB, CLICKHOUSE_USER, CLICKHOUSE_PASSWORD"
            return f"clickhouse at {store.address}, database {store.db} (settings {account}): {rejection(error)}"
        case NotDoneError() | ContractError() | DecodeError():
            return str(error)
        case _:
            return None
