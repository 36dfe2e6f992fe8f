"""List, watch, patch, exec and apply with the Python client; one `ok` line for each."""

import sys
import threading

from kubernetes import client, config, dynamic, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import stream

NAMESPACE, POD = sys.argv[1], sys.argv[2]
config.load_kube_config()
core, apps = client.CoreV1Api(), client.AppsV1Api()


def config_map(name, **data):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels={"app": "python"}), data=data)


def refused(status, reason, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except ApiException as error:
        assert error.status == status and reason in error.body, (error.status, error.body)
        return
    raise AssertionError(f"should have been refused with {status} {reason}")


def lists():
    for name in ("a", "b", "c"):
        core.create_namespaced_config_map(NAMESPACE, config_map(name, key=name))
    selected = core.list_namespaced_config_map(NAMESPACE, label_selector="app=python")
    assert [item.metadata.name for item in selected.items] == ["a", "b", "c"]
    first = core.list_namespaced_config_map(NAMESPACE, label_selector="app=python", limit=2)
    rest = core.list_namespaced_config_map(
        NAMESPACE, label_selector="app=python", limit=2, _continue=first.metadata._continue)
    assert [i.metadata.name for i in first.items + rest.items] == ["a", "b", "c"]
    assert first.metadata.resource_version == rest.metadata.resource_version
    assert any(i.metadata.name == NAMESPACE for i in core.list_namespace().items)
    refused(404, "NotFound", core.read_namespaced_config_map, "missing", NAMESPACE)
    refused(409, "AlreadyExists", core.create_namespaced_config_map, NAMESPACE, config_map("a"))
    refused(422, "Invalid", core.create_namespaced_config_map, NAMESPACE, config_map("A"))


def watches():
    start = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version

    def change():
        core.create_namespaced_config_map(NAMESPACE, config_map("seen", key="1"))
        core.patch_namespaced_config_map("seen", NAMESPACE, {"data": {"key": "2"}})
        core.delete_namespaced_config_map("seen", NAMESPACE)

    threading.Timer(0.2, change).start()
    events, watcher = [], watch.Watch()
    for event in watcher.stream(
            core.list_namespaced_config_map, NAMESPACE, resource_version=start, timeout_seconds=30):
        events.append((event["type"], event["object"].metadata.name))
        if event["type"] == "DELETED":
            watcher.stop()
    assert events == [("ADDED", "seen"), ("MODIFIED", "seen"), ("DELETED", "seen")], events


def patches():
    merged = core.patch_namespaced_config_map("a", NAMESPACE, {"data": {"more": "x"}})
    assert merged.data == {"key": "a", "more": "x"}
    json_patch = [{"op": "remove", "path": "/data/more"}]
    assert core.patch_namespaced_config_map("a", NAMESPACE, json_patch).data == {"key": "a"}
    replaced = core.read_namespaced_config_map("a", NAMESPACE)
    replaced.data = {"key": "z"}
    core.replace_namespaced_config_map("a", NAMESPACE, replaced)
    refused(409, "Conflict", core.replace_namespaced_config_map, "a", NAMESPACE, replaced)
    dry = core.patch_namespaced_config_map("a", NAMESPACE, {"data": {"key": "dry"}}, dry_run="All")
    assert dry.data == {"key": "dry"}
    assert core.read_namespaced_config_map("a", NAMESPACE).data == {"key": "z"}


def applies():
    resources = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="v1", kind="ConfigMap")

    def apply(manager, value, force=False):
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"key": value}}
        return resources.server_side_apply(
            namespace=NAMESPACE, name="applied", body=body, field_manager=manager, force_conflicts=force)

    assert apply("first", "1").data.key == "1"
    try:
        apply("second", "2")
        raise AssertionError("no conflict")
    except dynamic.exceptions.ConflictError as error:
        assert "conflict with \\\"first\\\"" in str(error.body), error.body
    assert apply("second", "2", force=True).data.key == "2"
    managers = {m.manager for m in resources.get(namespace=NAMESPACE, name="applied").metadata.managedFields}
    assert "second" in managers, managers


def executes():
    connect = core.connect_get_namespaced_pod_exec
    said = stream(connect, POD, NAMESPACE, command=["/bin/sh", "-c", "echo out; echo err >&2"],
                  stderr=True, stdin=False, stdout=True, tty=False)
    assert sorted(said.split()) == ["err", "out"], said
    talk = stream(connect, POD, NAMESPACE, command=["/bin/sh"], stderr=True, stdin=True, stdout=True,
                  tty=False, _preload_content=False)
    talk.write_stdin("echo $((6*7)); exit 3\n")
    talk.run_forever(timeout=20)
    assert talk.read_stdout().strip() == "42"
    assert talk.returncode == 3
    assert "started" in core.read_namespaced_pod_log(POD, NAMESPACE)


for step in (lists, watches, patches, applies, executes):
    step()
    print("ok", step.__name__, flush=True)
