//! wf0-agent runs WorkForce0 tickets with the coding CLI on a developer's own machine.
//!
//! It opens one outbound WebSocket to the backend, registers and takes tickets. For each ticket, it runs the CLI in the
//! right repository under a time limit, and sends back stdout, exit code and diff. It sends source code nowhere else,
//! with one exception: if the backend names a branch, it pushes this branch to the repository's own origin.
//!
//! # Modules
//!
//! [`domain`] is pure policy. [`link`] is the connection to the backend. `job` carries out tickets. `link` and `job` do
//! not know each other; both use `domain`. `daemon` connects them. Below these are [`config`], [`store`],
//! [`environment`], [`net`], [`times`] and `wire`. [`commands`] is above all of them. Every import points down.
//!
//! # Threads
//!
//! | thread | lives as long as | owns |
//! |---|---|---|
//! | main | the process | socket, TLS and WebSocket state, [`Session`](domain::session::Session), the state folder |
//! | `worker-N` | the process | one run at a time |
//! | `wait` | a child process | the child process; it also reports when the time limit passes |
//! | `drain` | a child process | the output pipes of the child process |
//! | `version` | the process | nothing; it asks the CLI for its version |
//! | `dial` | an attempt to connect | a socket that is not open yet |
//! | `lookup` | a name lookup | nothing; it may outlive the attempt to connect |
//! | `goodbye` | at most a second | a socket that is being closed |
//! | `log` | the process | standard error, or the file that the log goes to |
//! | `ctrl-c` | the process | nothing; it passes signals on |
//! | `keyboard` | the process | nothing; with `REQUIRE_APPROVAL` it passes on typed lines |
//!
//! In a Windows service, the daemon runs on a thread that the service manager creates, and `main` waits for it.
//!
//! # Invariants
//!
//! * Every claimed ticket ends with exactly one outcome.
//! * The register is the first message on a connection. With the hub, only `auth` comes before it.
//! * There are never more runs than slots, and never two runs at once in one work tree.
//! * The processes of a run are gone before the worker passes on its outcome.
//! * The token is in no argument, child's environment, log line, error or file. One frame has it: the hub's `auth`.

mod checks;
pub mod commands;
pub mod config;
mod daemon;
pub mod domain;
pub mod environment;
mod job;
pub mod link;
pub mod net;
pub mod store;
pub mod times;
mod wire;
