#!/usr/bin/env bash
# Builds the wheel, installs it alone with its runtime lock into a fresh environment outside the checkout, and
# uses it from there: a sweep on a local Ray, its report, the service. A file that the wheel lacks fails this,
# and so does a package that a room imports but only developers have. Needs a package index.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
torch=${TORCH:-torch==2.13.0}
scratch=$(mktemp -d)
server=
finish() {
  if [ -n "$server" ]; then kill "$server" && wait "$server" || true; fi
  rm -rf "$scratch"
}
trap finish EXIT

# A copy of what git knows, so that no stale build/ slips in.
mkdir "$scratch/source" "$scratch/elsewhere"
cd "$root"
git ls-files --cached --others --exclude-standard -z | xargs -0 ls -d 2> /dev/null |
  tar -cf - -T - | tar -xf - -C "$scratch/source"

python=$scratch/env/bin/python
"${PYTHON:-python3}" -m venv "$scratch/env"
pip() { "$python" -m pip --quiet --disable-pip-version-check "$@"; }
pip wheel --no-deps --wheel-dir "$scratch/dist" "$scratch/source"
pip install --constraint constraints.txt "$torch" "$scratch"/dist/*.whl

# From here on nothing of the checkout is in sight.
cd "$scratch/elsewhere"
unset PYTHONPATH
export SICKBAY_STORE=$scratch/elsewhere/store
sickbay() { "$scratch/env/bin/sickbay" "$@"; }
cat > smoke.yaml << 'END'
name: smoke
workload: mvm_orientation
factors: {initialization: [zeros, preset]}
seeds: 1
END
cat > old.csv << 'END'
epoch,train_loss,val_loss
1,0.9,0.8
2,nan,nan
END
sickbay --version
sickbay run smoke.yaml --cpus 2
sickbay effects smoke
sickbay report smoke --output report.html --figures figures
sickbay report smoke --format latex --output report.tex
sickbay export smoke --out export
sickbay diagnose old.csv
sickbay workloads
sickbay detectors no_skill > /dev/null
sickbay doctor
grep -q '</html>' report.html
ls figures/* report.tex export/* > /dev/null

port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
sickbay serve --port "$port" 2> server.log &
server=$!
"$python" - "http://127.0.0.1:$port" << 'END' || { cat server.log; exit 1; }
import json, sys, time, urllib.request

def get(path):
    with urllib.request.urlopen(sys.argv[1] + path, timeout=30) as answer:
        return answer.read()

for _ in range(240):
    try:
        get("/healthz")
        break
    except OSError:
        time.sleep(0.5)
[sweep] = json.loads(get("/api/sweeps"))["sweeps"]
assert b"</html>" in get(f"/api/sweeps/{sweep['sweep_id']}/report")
assert b"<script" in get("/")
print("the service knows", sweep["sweep_id"], "which is", sweep["state"])
END
echo "the wheel works on its own"
