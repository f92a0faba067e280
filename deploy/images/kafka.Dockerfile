# The Java servers: the broker, Kafka Connect with Debezium and the Avro converter, the schema registry. Which one is the
# command (compose.yaml). Their jars are those of the native runtime, each by the hash in deploy/native/jars.lock.
#   docker build --file deploy/images/kafka.Dockerfile --tag placar/kafka .
ARG BASE=debian:bookworm-20260803-slim

FROM ${BASE} AS jars
RUN mkdir -p /usr/share/man/man1 \
    && apt-get update && apt-get install --yes --no-install-recommends ca-certificates-java maven python3
WORKDIR /build
COPY deploy/__init__.py deploy/
COPY deploy/native/__init__.py deploy/native/jars.py deploy/native/jars.lock deploy/native/packages.py deploy/native/
COPY deploy/native/maven deploy/native/maven
COPY deploy/connect/java deploy/connect/java
RUN python3 -c "from pathlib import Path; from deploy.native import jars; jars.ensure(Path('/opt/placar'))"

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="placar/kafka" \
      org.opencontainers.image.description="Kafka, Kafka Connect with Debezium and the Avro converter, and the schema registry" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="debian:bookworm-20260803-slim"
RUN mkdir -p /usr/share/man/man1 \
    && apt-get update \
    && apt-get install --yes --no-install-recommends curl openjdk-17-jre-headless \
    && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* \
    && useradd --uid 10001 --user-group --no-create-home placar \
    && install -d -o placar -g placar /var/lib/kafka /var/lib/placar /var/lib/placar/conf
COPY --from=jars /opt/placar/jars/agent /opt/placar/jars/agent
COPY --from=jars /opt/placar/jars/registry /opt/placar/jars/registry
COPY --from=jars /opt/placar/jars/plugins /opt/placar/jars/plugins
COPY --from=jars /opt/placar/jars/kafka /opt/placar/jars/kafka
ENV PLACAR_HOME=/opt/placar \
    AGENT=/opt/placar/jars/agent/jmx_prometheus_javaagent-1.0.1.jar \
    JDK_JAVA_OPTIONS="-Xms64m -XX:+UseSerialGC -XX:MaxDirectMemorySize=128m -Djava.awt.headless=true -Dlog4j2.configurationFile=/var/lib/placar/conf/kafka/log4j2.properties"
WORKDIR /tmp
USER 10001:10001
CMD ["java", "-version"]
