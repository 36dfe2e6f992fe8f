//! Streams between a terminal and a container: logs, exec, attach, copies, forwarded ports.

use kybern_e2e::{Namespace, Scratch, ensure, eventually, fetch, free_port, shell, web};

#[test]
fn logs_are_cut_stamped_followed_and_kept_of_the_container_before() {
    let ns = Namespace::new("logs");
    ns.apply(
        &shell(
            "p",
            "for i in 1 2 3 4 5; do echo line $i; done; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo last; exit 1",
        )
        .replace("restartPolicy: Never", "restartPolicy: OnFailure"),
    );
    ns.ready("p");
    let logs = |args: &[&str]| {
        let mut all = vec!["logs", "p"];
        all.extend_from_slice(args);
        ns.say(&all)
    };
    assert_eq!(
        eventually("all lines", || ns
            .kubectl(&["logs", "p"])
            .and_then(|t| ensure(t.lines().count() == 5, || t.clone()).map(|()| t))),
        "line 1\nline 2\nline 3\nline 4\nline 5\n"
    );
    assert_eq!(logs(&["--tail=2"]), "line 4\nline 5");
    assert_eq!(logs(&["--limit-bytes=6"]), "line 1");
    assert_eq!(logs(&["--since=1h"]).lines().count(), 5);
    assert_eq!(logs(&["--since-time=2999-01-01T00:00:00Z"]), "");
    let stamped = logs(&["--timestamps", "--tail=1"]);
    let (stamp, text) = stamped.split_once(' ').unwrap();
    assert!(stamp.ends_with('Z') && stamp.contains('T') && stamp.contains('.') && text == "line 5", "{stamped}");
    assert_eq!(logs(&["--prefix", "--tail=1"]), "[pod/p/main] line 5");
    assert_eq!(ns.say(&["logs", "-l", "app=p", "--tail=1"]), "line 5");

    let follow = ns.background(&["logs", "-f", "p", "--tail=1"]);
    eventually("what there is", || ensure(follow.so_far() == "line 5\n", || follow.so_far()));
    ns.say(&["exec", "p", "--", "touch", "/tmp/go"]);
    eventually("what comes", || ensure(follow.so_far() == "line 5\nlast\n", || follow.so_far()));
    drop(follow);
    eventually("the container is started again", || {
        let restarts = ns.path(&["pod", "p"], "{.status.containerStatuses[0].restartCount}")?;
        ensure(restarts != "0", || restarts.clone())
    });
    assert_eq!(logs(&["--previous", "--tail=1"]), "last");
    assert!(ns.refused(&["logs", "nobody"]).contains("(NotFound)"));
    assert!(ns.refused(&["logs", "p", "-c", "other"]).contains("container other is not valid for pod p"));
}

#[test]
fn exec_carries_input_output_and_exit_code() {
    let ns = Namespace::new("exec");
    ns.apply(&shell("p", "sleep 3600"));
    ns.ready("p");
    assert_eq!(ns.say(&["exec", "p", "--", "hostname"]), "p");
    assert_eq!(ns.kubectl_with(&["exec", "-i", "p", "--", "cat"], "through stdin").unwrap(), "through stdin");
    let big: String = (0..200_000).map(|i| format!("{i}\n")).collect();
    assert!(ns.kubectl_with(&["exec", "-i", "p", "--", "cat"], &big).unwrap() == big, "a megabyte there and back");
    let both = ns.client().output(&["exec", "p", "--", "sh", "-c", "echo out; echo err >&2; exit 7"], None).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!((text(&both.stdout).as_str(), both.status.code()), ("out\n", Some(7)));
    assert!(text(&both.stderr).starts_with("err\n"), "{}", text(&both.stderr));
    let missing = ns.refused(&["exec", "p", "--", "no-such-program"]);
    assert!(missing.contains("no-such-program"), "{missing}");
}

#[test]
fn exec_on_a_terminal_has_its_size_and_its_exit_code() {
    let ns = Namespace::new("terminal");
    ns.apply(&shell("p", "sleep 3600"));
    ns.ready("p");
    // An echo of what is typed never shows the products, only the shell's own answer does.
    let typed = "stty size; echo $((6*7))-$((6*9)); tty; exit 5\n";
    let (shown, code) = ns.client().on_terminal((123, 45), &["exec", "-it", "p", "--", "sh"], typed).unwrap();
    assert_eq!(code, 5, "{shown}");
    assert!(shown.contains("42-54") && shown.contains("45 123") && shown.contains("/dev/pts/"), "{shown}");
}

#[test]
fn attach_joins_the_main_process() {
    let ns = Namespace::new("attach");
    let manifest = shell("p", "read word; echo heard $word; sleep 3600");
    ns.apply(&manifest.replace("    image:", "    stdin: true\n    image:"));
    ns.ready("p");
    let client = ns.client();
    let attached = client.background_with(&["attach", "-i", "p"], "hello\n");
    eventually("the process answers", || ensure(attached.so_far().contains("heard hello"), || attached.so_far()));
}

#[test]
fn files_and_directories_are_copied_both_ways() {
    let ns = Namespace::new("copy");
    let scratch = Scratch::new("copy");
    ns.apply(&shell("p", "sleep 3600"));
    ns.ready("p");
    let content: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    std::fs::create_dir_all(scratch.file("tree/deep")).unwrap();
    std::fs::write(scratch.file("tree/deep/file"), &content).unwrap();
    ns.say(&["cp", &scratch.file("tree"), "p:/tmp/tree"]);
    let size = ns.say(&["exec", "p", "--", "stat", "-c", "%s", "/tmp/tree/deep/file"]);
    assert_eq!(size, content.len().to_string());
    ns.say(&["cp", "p:/tmp/tree", &scratch.file("back")]);
    assert!(std::fs::read(scratch.file("back/deep/file")).unwrap() == content);
    ns.say(&["cp", "p:/tmp/tree/deep/file", &scratch.file("single")]);
    assert!(std::fs::read(scratch.file("single")).unwrap() == content);
}

#[test]
fn ports_of_pods_and_services_are_forwarded() {
    let ns = Namespace::new("forward");
    ns.apply(&web("web", 1));
    ns.rolled_out("web");
    ns.say(&["expose", "deployment", "web", "--port=80", "--target-port=http"]);
    let pod = ns.path(&["pods", "-l", "app=web"], "{.items[0].metadata.name}").unwrap();
    for (target, remote) in
        [(format!("pod/{pod}"), "8080"), ("service/web".into(), "80"), ("deployment/web".into(), "http")]
    {
        let port = free_port();
        let forward = ns.background(&["port-forward", &target, &format!("{port}:{remote}")]);
        for _ in 0..3 {
            let page = eventually("the forwarded port answers", || fetch("127.0.0.1", port));
            assert!(page.contains(&pod), "{target}: {page}");
        }
        let said = forward.finish();
        assert!(said.contains(&format!("Forwarding from 127.0.0.1:{port} -> 8080")), "{said}");
    }
}
