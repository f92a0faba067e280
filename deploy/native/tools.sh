# Installs uv and task, pinned by hash, from the package index into the folder $1, once. Needs python3 with pip.
set -eu
tools=$1
lock="$(cd "$(dirname "$0")" && pwd)/tools.lock"
current() { cmp -s "$lock" "$tools/lock"; }
current && exit 0
if ! command -v python3 >/dev/null 2>&1 || ! python3 -m pip --version >/dev/null 2>&1; then
    echo "placar: python3 with pip is missing (Debian: apt-get install python3 python3-pip)" >&2
    exit 1
fi
if [ -e "$tools" ] && [ ! -e "$tools/lock" ]; then # a folder that is not ours is kept
    echo "placar: $tools (setting PLACAR_HOME) is not Placar's: name another folder, or remove it" >&2
    exit 1
fi
mkdir -p "$(dirname "$tools")"
if command -v flock >/dev/null 2>&1; then # another one may be installing at this moment
    exec 9>"$tools.lock"
    flock 9
    current && exit 0
fi
echo "placar: installing uv and task into $tools ..." >&2
rm -rf "$tools.new"
# --target needs no venv module and leaves the system's packages alone
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-deps --only-binary :all: \
    --require-hashes --target "$tools.new" --requirement "$lock"
cp "$lock" "$tools.new/lock"
rm -rf "$tools"
mv "$tools.new" "$tools"
