#!/bin/sh
# Becomes the broker; before its first start it formats the folder of its data.
# start.sh DATA_DIR CLASS_PATH PROPERTIES COMMAND...
set -eu
data=$1 classes=$2 properties=$3
shift 3
[ -f "$data/meta.properties" ] ||
    java -cp "$classes" kafka.tools.StorageTool format --ignore-formatted -t cGxhY2FyLXNhbGVzLTAwMQ -c "$properties" >/dev/null
exec "$@"
