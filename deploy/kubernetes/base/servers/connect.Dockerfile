# placar/connect: Strimzi's Kafka Connect with Debezium and the converter of placar/kafka.
#   docker build --file deploy/kubernetes/base/servers/connect.Dockerfile --tag placar/connect:0.1.0 deploy/kubernetes
ARG PLUGINS=placar/kafka:0.1.0
FROM ${PLUGINS} AS plugins

FROM quay.io/strimzi/kafka:1.2.0-kafka-4.3.1
COPY --from=plugins /opt/placar/jars/plugins/ /opt/kafka/plugins/
