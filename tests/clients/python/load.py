"""Requests of every kind on connections that stay open, until standard input ends; what failed after the
client's own retries. The last line is JSON."""

import json
import sys
import threading

import urllib3
from kubernetes import client, config

NAMESPACE, THREADS = sys.argv[1], 6
config.load_kube_config()
settings = client.Configuration.get_default_copy()
# What clients commonly do: a few tries of what can be repeated, after a moment, also where the server says so.
settings.retries = urllib3.Retry(
    total=5, backoff_factor=0.2, status_forcelist=[429, 500, 502, 503, 504], allowed_methods=None,
    respect_retry_after_header=True, raise_on_status=False)
stop = threading.Event()
counts, failures = [0] * THREADS, []


def work(number):
    core = client.CoreV1Api(client.ApiClient(settings))
    turn = 0
    while not stop.is_set():
        turn += 1
        name = f"load-{number}-{turn}"
        body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name), data={"key": str(turn)})
        steps = [
            ("create", lambda: core.create_namespaced_config_map(NAMESPACE, body)),
            ("get", lambda: core.read_namespaced_config_map(name, NAMESPACE)),
            ("patch", lambda: core.patch_namespaced_config_map(name, NAMESPACE, {"data": {"more": "x"}})),
            ("list", lambda: core.list_namespaced_config_map(NAMESPACE, limit=20)),
            ("delete", lambda: core.delete_namespaced_config_map(name, NAMESPACE)),
        ]
        for what, step in steps:
            try:
                step()
            except Exception as error:  # whatever a client would see
                # A repeated write that had already come through says so.
                status = getattr(error, "status", None)
                if (what, status) in (("create", 409), ("delete", 404)):
                    continue
                failures.append(f"{what} {name}: {type(error).__name__} {str(error)[:300]}")
            counts[number] += 1


threads = [threading.Thread(target=work, args=(n,)) for n in range(THREADS)]
for thread in threads:
    thread.start()
print("running", flush=True)
sys.stdin.read()
stop.set()
for thread in threads:
    thread.join()
print(json.dumps({"requests": sum(counts), "failures": failures}))
