//! Signals that may end a container.

/// Every one, in the order in which the container runtime interface numbers them, from 1.
pub const STOP_SIGNALS: [&str; 65] = [
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGRTMIN",
    "SIGRTMIN+1",
    "SIGRTMIN+2",
    "SIGRTMIN+3",
    "SIGRTMIN+4",
    "SIGRTMIN+5",
    "SIGRTMIN+6",
    "SIGRTMIN+7",
    "SIGRTMIN+8",
    "SIGRTMIN+9",
    "SIGRTMIN+10",
    "SIGRTMIN+11",
    "SIGRTMIN+12",
    "SIGRTMIN+13",
    "SIGRTMIN+14",
    "SIGRTMIN+15",
    "SIGRTMAX-14",
    "SIGRTMAX-13",
    "SIGRTMAX-12",
    "SIGRTMAX-11",
    "SIGRTMAX-10",
    "SIGRTMAX-9",
    "SIGRTMAX-8",
    "SIGRTMAX-7",
    "SIGRTMAX-6",
    "SIGRTMAX-5",
    "SIGRTMAX-4",
    "SIGRTMAX-3",
    "SIGRTMAX-2",
    "SIGRTMAX-1",
    "SIGRTMAX",
];

/// The runtime interface's number of a signal; 0, which leaves it to the runtime, for one that is none.
pub fn runtime_number(signal: &str) -> i32 {
    let position = STOP_SIGNALS.iter().position(|s| *s == signal);
    position.and_then(|p| i32::try_from(p + 1).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::runtime_number;

    #[test]
    fn numbers_are_those_of_the_interface() {
        for (signal, number) in
            [("SIGABRT", 1), ("SIGTERM", 23), ("SIGRTMIN", 35), ("SIGRTMAX-14", 51), ("SIGRTMAX", 65)]
        {
            assert_eq!(runtime_number(signal), number, "{signal}");
        }
        assert_eq!(runtime_number("TERM"), 0);
    }
}
