"""`python -m chassis.publish`: make broker and registry hold the catalogue, for the configured window lengths."""

import asyncio
import sys

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError

from chassis.registry import Client, RegistryUnavailableError
from chassis.settings import KafkaSettings, RankingSettings, RegistrySettings, TopicSettings, load
from contracts.catalogue import CatalogueError, catalogue
from contracts.codec import ContractError
from contracts.publish import publish


async def main() -> int:
    """Publish, print what happened to each topic, and return the exit status."""
    kafka, registry, lengths = load(KafkaSettings), load(RegistrySettings), load(RankingSettings).lengths
    replicas = load(TopicSettings).replicas
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    try:
        await admin.start()
        client = Client(registry, timeout_s=30)
        results = await publish(catalogue(lengths), admin, client, replicas)
    except (CatalogueError, ContractError) as error:
        sys.stderr.write(f"contracts not published: {error}\n")
        return 1
    except (KafkaConnectionError, RegistryUnavailableError) as error:
        sys.stderr.write(
            f"contracts not published: {error!r} (KAFKA_* {kafka.bootstrap}, SCHEMA_REGISTRY_* {registry.url})\n"
        )
        return 1
    finally:
        await admin.close()
    for result in results:
        subject = "subject owned by its producer" if result.schema_id is None else f"schema id {result.schema_id}"
        sys.stdout.write(f"{result.topic}: {result.outcome}, {subject}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
