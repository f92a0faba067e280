"""What the connector needs of the database and does not report itself: checked in Postgres."""

import asyncpg

from chassis.postgres import SETTING, open_connection
from chassis.settings import PostgresSettings

TIMEOUT_S = 5.0
# Each row is something that is wrong. $1 is the slot, $2 the publication.
TROUBLE = """
SELECT format('the server invalidated the slot %s, which held more than max_slot_wal_keep_size of its log: '
              'changes were missed, run task resnapshot', slot_name)
  FROM pg_replication_slots WHERE slot_name = $1 AND wal_status = 'lost'
UNION ALL
SELECT format('the log of the database is behind the slot %s: it was restored, raise CDC_EPOCH and run task resnapshot',
              slot_name)
  FROM pg_replication_slots WHERE slot_name = $1 AND confirmed_flush_lsn > pg_current_wal_lsn()
UNION ALL
SELECT format('the publication %s does not have the table sales: no change is captured', $2::text)
  WHERE NOT EXISTS (SELECT FROM pg_publication_tables WHERE pubname = $2 AND tablename = 'sales')
UNION ALL
SELECT 'the table sales has not REPLICA IDENTITY FULL: deletes are captured without their values'
  FROM pg_class WHERE oid = 'sales'::regclass AND relreplident <> 'f'
UNION ALL
SELECT 'the trigger sales_truncate is not there or not ENABLE ALWAYS: TRUNCATE would delete nothing here'
  WHERE NOT EXISTS (
    SELECT FROM pg_trigger WHERE tgrelid = 'sales'::regclass AND tgname = 'sales_truncate' AND tgenabled = 'A')
"""


async def trouble(settings: PostgresSettings, slot: str, publication: str) -> str:
    """What is wrong with the source in one line, an unavailable one included; empty where nothing is."""
    try:
        database = await open_connection(settings, TIMEOUT_S)
        try:
            rows = await database.fetch(TROUBLE, slot, publication)
        finally:
            await database.close(timeout=TIMEOUT_S)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return f"postgres at {settings.host}:{settings.port} (setting {SETTING}) does not answer: {error!r}"
    return "; ".join(row[0] for row in rows)
